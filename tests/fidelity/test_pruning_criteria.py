"""Pruning at initialisation by GraSP (2002.07376) and SynFlow (2006.05467), against formulas of their own."""

import copy
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.config import Recipe
from benchmark.method import Task
from methods.masks import KeptConv2d, keep_highest
from methods.nfe import Nfe
from methods.pruning import grasp_scores, keep_by_synflow, positive, synflow_scores


def test_grasp_scores_are_what_a_weights_removal_takes_from_the_gradients_norm(task_of: Callable[..., Task]) -> None:
    """w ∘ Hg is d(|g|²/2)/dc of a gate c on one weight, by central differences in float64; logits are divided by 200."""
    torch.manual_seed(0)
    task = task_of(dtype=torch.float64)
    network = task.network(conv=KeptConv2d).train()
    x_BCHW, y_B = task.train_batch(6)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    scores = grasp_scores(network, x_BCHW, y_B)
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items()), "scored on a copy"
    named = {name: module for name, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    assert scores.keys() == named.keys(), "all convolutions and not the classifier"

    def halved_norm() -> float:
        loss = F.cross_entropy(network(x_BCHW) / 200, y_B)
        gradients = torch.autograd.grad(loss, [module.weight for module in named.values()])
        return sum(g.square().sum().item() for g in gradients) / 2

    step, signs = 1e-5, set()
    for name, module in named.items():
        for index in (0, module.weight.numel() // 2, module.weight.numel() - 1):
            place = np.unravel_index(index, module.weight.shape)
            original, norms = module.weight.data[place].item(), []
            for gate in (1 + step, 1 - step):
                module.weight.data[place] = gate * original
                norms.append(halved_norm())
            module.weight.data[place] = original
            slope = (norms[0] - norms[1]) / (2 * step)
            assert scores[name][place].item() == pytest.approx(slope, rel=1e-3, abs=1e-12), name
            signs.add(slope > 0)
    assert signs == {True, False}, "scores have signs, and the lowest are pruned"


def test_grasp_keeps_the_weights_whose_removal_takes_most(task_of: Callable[..., Task], recipe: Recipe) -> None:
    task, method = task_of(), Nfe(num_members=1, sparsity=0.6, pruning="grasp", snip_images=8)
    [stage] = method.stages(task, recipe)
    torch.manual_seed(0)
    network = method.start(stage, task, {})
    torch.manual_seed(0)
    scores = grasp_scores(task.network(conv=KeptConv2d), *task.train_batch(8))
    kept = torch.cat([(m.weight != 0).flatten() for m in network.modules() if isinstance(m, KeptConv2d)])
    flat = torch.cat([score.flatten() for score in scores.values()])
    assert flat[kept].min() >= flat[~kept].max()
    assert flat[~kept].max() > flat.min()


def chain(*widths: int, scale: float = 1.0) -> nn.Sequential:
    """1x1 convolutions in a chain, with ReLU between them: matrix products for an image of one pixel."""
    layers: list[nn.Module] = []
    for i, o in itertools.pairwise(widths):
        layers += [KeptConv2d(i, o, kernel_size=1, stride=1, padding=0, bias=False), nn.ReLU()]
    network = nn.Sequential(*layers[:-1], nn.Flatten())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(scale)
    return network


def flows(matrices: list[np.ndarray]) -> list[np.ndarray]:
    """|w| dR/d|w| with R = 1ᵀ |W_L| … |W_1| 1: what flows into a weight, times the weight, times what it flows on to."""
    scores = []
    for layer, matrix in enumerate(matrices):
        into = np.ones(matrices[0].shape[1])
        for earlier in matrices[:layer]:
            into = np.abs(earlier) @ into
        onto = np.ones(matrices[-1].shape[0])
        for later in reversed(matrices[layer + 1 :]):
            onto = onto @ np.abs(later)
        scores.append(onto[:, None] * np.abs(matrix) * into[None, :])
    return scores


def matrices_of(network: nn.Module) -> list[np.ndarray]:
    return [m.weight.detach().double().numpy()[:, :, 0, 0] for m in network.modules() if isinstance(m, KeptConv2d)]


def test_synflow_scores_are_products_of_flows_and_every_layer_passes_on_all() -> None:
    torch.manual_seed(0)
    network = chain(3, 20, 16, 5)
    scores = [score.numpy()[:, :, 0, 0] for score in synflow_scores(positive(network), (3, 1, 1)).values()]
    expected = flows(matrices_of(network))
    for score, other in zip(scores, expected, strict=True):
        np.testing.assert_allclose(score, other, rtol=1e-9)
    np.testing.assert_allclose([score.sum() for score in scores], scores[0].sum())


def test_synflow_prunes_in_a_hundred_rounds_to_exponentially_falling_shares() -> None:
    torch.manual_seed(1)
    network = chain(3, 20, 16, 5)
    before = copy.deepcopy(network.state_dict())
    # At higher sparsity units with one weight in and one out come up, whose scores are equal.
    keep = keep_by_synflow(network, (3, 1, 1), 0.7)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items()), "on a copy"
    matrices = matrices_of(network)
    for k in range(1, 101):
        flat = np.concatenate([score.ravel() for score in flows(matrices)])
        num_kept = round(len(flat) * 0.3 ** (k / 100))
        threshold = np.sort(flat)[-num_kept]
        matrices = [m * (score >= threshold) for m, score in zip(matrices, flows(matrices), strict=True)]
    for mask, matrix in zip(keep.values(), matrices, strict=True):
        np.testing.assert_array_equal(mask.numpy()[:, :, 0, 0], matrix != 0)
    once = keep_highest(synflow_scores(positive(network), (3, 1, 1)), 0.7)
    assert any(not torch.equal(keep[name], once[name]) for name in keep), "one round would keep others"


def test_synflow_leaves_a_path_through_every_layer() -> None:
    torch.manual_seed(0)
    network = chain(3, 40, 2, 40, 5)
    keep = keep_by_synflow(network, (3, 1, 1), 0.97)
    assert all(bool(mask.any()) for mask in keep.values())
    flow = np.ones(3)
    for mask in keep.values():
        flow = mask.numpy()[:, :, 0, 0] @ flow
    assert flow.sum() > 0


def test_synflow_of_many_wide_layers_is_beyond_float32_and_finite() -> None:
    torch.manual_seed(0)
    network = chain(3, *[64] * 20, 5, scale=20.0)
    scores = synflow_scores(positive(network), (3, 1, 1))
    totals = [score.sum().item() for score in scores.values()]
    assert max(totals) > torch.finfo(torch.float32).max
    assert np.isfinite(totals).all()
