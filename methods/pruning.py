"""Pruning at initialisation: which convolution weights of a network that has not been trained are kept.

Every criterion ranks the weights of all convolutions together, stem and shortcuts included, classifier left out. Scores
are taken on a copy, so that the network's weights and batch-norm statistics stay as they were.
"""

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.method import Task
from methods.masks import conv_weights, keep_highest, random_scores

Criterion = Literal["snip", "snip_densities", "grasp", "synflow", "random"]

SYNFLOW_ROUNDS = 100
GRASP_TEMPERATURE = 200.0


@dataclass(frozen=True)
class SnipScoring:
    """How SNIP scores; the defaults are its paper's, the others what NFE's released code does (hjdw2/NFE:snip.py:18-33)."""

    loss: Literal["cross_entropy", "label_logit"] = "cross_entropy"
    """label_logit: the negative of the label's logit, whose gradient at the outputs no prediction changes."""
    redrawn: bool = False
    """Score weights drawn anew, Xavier-normal, so that of the masks only the densities of layers mean something."""


def keep_at_start(
    criterion: Criterion, network: nn.Module, task: Task, sparsity: float, num_images: int, scoring: SnipScoring
) -> dict[str, Tensor]:
    """Masks of a network's convolutions that keep a share 1 - sparsity of all their weights together, by a criterion.

    `num_images` training images are what SNIP and GraSP score on.
    """
    if criterion == "random":
        return keep_highest(random_scores(conv_weights(network)), sparsity)
    if criterion == "synflow":
        return keep_by_synflow(network, task.image_shape, sparsity)
    x_BCHW, y_B = task.train_batch(num_images)
    if criterion == "grasp":
        return keep_highest(grasp_scores(network, x_BCHW, y_B), sparsity)
    keep = keep_highest(snip_scores(network, x_BCHW, y_B, scoring), sparsity)
    return shuffle_within_layers(keep) if criterion == "snip_densities" else keep


def snip_scores(
    network: nn.Module, x_BCHW: Tensor, y_B: Tensor, scoring: SnipScoring = SnipScoring()
) -> dict[str, Tensor]:
    """|w dL/dw|, L the cross-entropy of one batch, in training mode (Lee, Ajanthan & Torr 2019, 1810.02340, equation 6)."""
    scored = copy.deepcopy(network).train()
    weights = conv_weights(scored)
    if scoring.redrawn:
        with torch.no_grad():
            for weight in weights.values():
                weight.copy_(nn.init.xavier_normal_(torch.empty(weight.shape)))  # on the CPU, for every device alike
    loss = F.cross_entropy if scoring.loss == "cross_entropy" else F.nll_loss
    gradients = torch.autograd.grad(loss(scored(x_BCHW), y_B), list(weights.values()))
    return {name: (weight * g).abs().detach() for (name, weight), g in zip(weights.items(), gradients, strict=True)}


def grasp_scores(network: nn.Module, x_BCHW: Tensor, y_B: Tensor) -> dict[str, Tensor]:
    """w ∘ Hg: what a weight's removal takes from the gradient's squared norm, halved, to first order, in training mode.

    g and H are gradient and Hessian of the cross-entropy. Wang, Zhang & Grosse 2020, 2002.07376, section 4, prune where
    S(-w) = -w ∘ Hg is highest. Logits are divided by T = 200 as in alecwangcq/GraSP:pruner/GraSP.py:49-140, which also
    draws a classifier of its own, ranks its weights too, and adds up gradients of two halves of the batch.
    """
    scored = copy.deepcopy(network).train()
    weights = conv_weights(scored)
    loss = F.cross_entropy(scored(x_BCHW) / GRASP_TEMPERATURE, y_B)
    gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
    halved_norm = torch.stack([g.square().sum() for g in gradients]).sum() / 2
    products = torch.autograd.grad(halved_norm, list(weights.values()))
    return {name: (weight * h).detach() for (name, weight), h in zip(weights.items(), products, strict=True)}


def keep_by_synflow(network: nn.Module, image_shape: tuple[int, int, int], sparsity: float) -> dict[str, Tensor]:
    """Masks after 100 rounds of scoring and pruning, the k-th to a share (1 - sparsity)^(k / 100) (algorithm 1)."""
    flowing = positive(network)
    keep: dict[str, Tensor] = {}
    for k in range(1, SYNFLOW_ROUNDS + 1):
        keep = keep_highest(synflow_scores(flowing, image_shape), 1 - (1 - sparsity) ** (k / SYNFLOW_ROUNDS))
        with torch.no_grad():
            for name, weight in conv_weights(flowing).items():
                weight.mul_(keep[name])
    return keep


def synflow_scores(flowing: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, Tensor]:
    """w dR/dw of a positive network, R the sum of its outputs for an image of ones.

    Tanaka et al. 2020, 2006.05467: synaptic flow, R = 1ᵀ (∏ |W_l|) 1 for layers in a chain.
    """
    weights = conv_weights(flowing)
    ones = torch.ones(1, *image_shape, dtype=torch.float64, device=next(flowing.parameters()).device)
    gradients = torch.autograd.grad(flowing(ones).sum(), list(weights.values()))
    return {name: (weight * g).detach() for (name, weight), g in zip(weights.items(), gradients, strict=True)}


def positive(network: nn.Module) -> nn.Module:
    """A copy in which every parameter is its absolute value, batch normalisation in evaluation mode.

    In float64: sums over paths grow with the product of all layers' widths, in deep networks beyond float32.
    """
    copied = copy.deepcopy(network).double().eval()
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.abs_()
    return copied


def shuffle_within_layers(keep: dict[str, Tensor]) -> dict[str, Tensor]:
    """Random masks with the same number of kept weights in each layer."""
    return {
        name: mask.flatten()[torch.randperm(mask.numel()).to(mask.device)].view_as(mask) for name, mask in keep.items()
    }


def spare_pointwise(keep: dict[str, Tensor]) -> dict[str, Tensor]:
    """The masks, but every weight of 1x1 convolutions kept."""
    return {name: torch.ones_like(mask) if mask.shape[-1] == 1 else mask for name, mask in keep.items()}
