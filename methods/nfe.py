"""Network Fission Ensembles: one network split into weight groups with several exits (Lee & Kim 2024, 2408.02301).

(1) Optional pruning at initialisation keeps a share 1 - sparsity of all convolution weights. (2) Fission: behind the
first group of layers the kept weights of every convolution are dealt at random to as many branches as run there, so
that branches hold disjoint weights and together exactly the kept ones. Each branch has its own batch normalisation,
each exit its own head. (3) All exits train together with ensemble knowledge distillation,
L = sum_n CE(z_n, y) + T² sum_n KL(softmax(z_E / T) || softmax(z_n / T)), z_E = mean_n z_n without gradient.
(4) The members are the exits; the paper's prediction is the mean of their logits.

Branches per group of layers, for N exits: 1 in the first, then one more per group up to N, and N in the last. With
three groups that is the paper's tree: N = 2: 1, 2, 2; N = 3: 1, 2, 3 (exit 1 leaves first; exits 2 and 3 part last).
More exits than groups, which the paper leaves open, part in the last group.

Every weight is stored once; a branch convolves with weight o mask. What is executed is dense all the same: 1.68 (N = 2)
and 2.02 (N = 3) forward passes of one WRN-28-10, which the counted nonzero weights don't show.
"""

import copy
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.method import Done, Method, Stage, Task, cross_entropy
from benchmark.networks.backbone import Backbone
from methods.masks import KeptConv2d, conv_weights, deal, keep_highest, prune, random_scores


@dataclass(frozen=True)
class Nfe(Method):
    num_members: Annotated[int, Field(ge=2, le=100, description="exits")] = 3
    sparsity: Annotated[float, Field(ge=0, lt=1, description="share of convolution weights pruned at the start")] = 0.0
    pruning: Annotated[Literal["snip", "random"], Field(description="what decides which weights are pruned")] = "snip"
    snip_images: Annotated[int, Field(ge=1, description="training images that SNIP scores on")] = 512
    distillation: Annotated[bool, Field(description="ensemble knowledge distillation; false: cross-entropy alone")] = (
        True
    )
    temperature: Annotated[float, Field(gt=0, description="T of the distillation")] = 3.0

    def start(self, stage: Stage, task: Task, done: Done) -> nn.Module:
        network = task.network(conv=KeptConv2d)
        if self.sparsity > 0:
            if self.pruning == "snip":
                # The network that is trained is scored; the released code scores another, drawn anew.
                scores = snip_scores(network, *task.train_batch(self.snip_images))
            else:
                scores = random_scores(conv_weights(network))
            prune(network, keep_highest(scores, self.sparsity))
        return FissionNetwork(network, self.num_members)

    def loss(self, network: nn.Module, x_SBCHW: Tensor, y_SBK: Tensor, progress: float) -> Tensor:
        logits_MBK = network(x_SBCHW[0]).to(y_SBK.dtype)
        loss = torch.stack([cross_entropy(logits_BK, y_SBK[0]) for logits_BK in logits_MBK]).sum()
        return loss + distillation_loss(logits_MBK, self.temperature) if self.distillation else loss

    def predict(self, done: Done, x_BCHW: Tensor) -> Tensor:
        return done["main"](x_BCHW)


def distillation_loss(logits_MBK: Tensor, temperature: float) -> Tensor:
    """T² sum_m KL(softmax(z_E / T) || softmax(z_m / T)), mean over images; z_E is the mean of logits, a constant."""
    log_teacher_BK = F.log_softmax(logits_MBK.detach().mean(0) / temperature, dim=-1)
    log_students_MBK = F.log_softmax(logits_MBK / temperature, dim=-1)
    divergence_MB = (log_teacher_BK.exp() * (log_teacher_BK - log_students_MBK)).sum(-1)
    return temperature**2 * divergence_MB.mean(1).sum()


def snip_scores(network: nn.Module, x_BCHW: Tensor, y_B: Tensor) -> dict[str, Tensor]:
    """|w dL/dw| of every convolution weight, L the cross-entropy of one batch (Lee, Ajanthan & Torr 2019, equation 6).

    Scored in training mode on a copy, so that the network's batch-norm statistics stay as they were. The released code
    takes the negative of the label's logit for L.
    """
    scored = copy.deepcopy(network).train()
    weights = conv_weights(scored)
    gradients = torch.autograd.grad(F.cross_entropy(scored(x_BCHW), y_B), list(weights.values()))
    return {name: (weight * g).abs().detach() for (name, weight), g in zip(weights.items(), gradients, strict=True)}


class FissionNetwork(nn.Module):
    """x_BCHW -> logits_MBK of M exits. Branches of one group of layers share its parameters through disjoint masks."""

    def __init__(self, network: Backbone, num_exits: int):
        super().__init__()
        self.stem = network.stem
        num_groups = len(network.groups)
        widths = [min(g + 1, num_exits) for g in range(num_groups - 1)] + [num_exits]
        self.groups = nn.ModuleList(split(group, width) for group, width in zip(network.groups, widths, strict=True))
        self.heads = nn.ModuleList(copy.deepcopy(network.head) for _ in range(num_exits))
        for head in self.heads:  # heads start apart, drawn on the CPU like the backbone
            for module in head.modules():
                if isinstance(module, nn.Linear):
                    with torch.no_grad():
                        module.weight.copy_(nn.Linear(module.in_features, module.out_features).weight)
                    nn.init.zeros_(module.bias)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        features = [self.stem(x_BCHW)]
        for branches in self.groups:
            assert isinstance(branches, nn.ModuleList)
            # Branch i goes on from the branch of its own number, or from the last where there were fewer.
            features = [branch(features[min(i, len(features) - 1)]) for i, branch in enumerate(branches)]
        return torch.stack([head(f) for head, f in zip(self.heads, features, strict=True)])


def split(group: nn.Module, num_branches: int) -> nn.ModuleList:
    """Copies of a group of layers with convolution weights in common, each with its own part of the kept ones.

    1x1 shortcuts are split like all others, as the paper's count of weights implies; the released code copies them, and
    draws the groups of three exits independently, so that they overlap.
    """
    branches = nn.ModuleList([group] + [copy.deepcopy(group) for _ in range(num_branches - 1)])
    if num_branches == 1:
        return branches
    for name, module in group.named_modules():
        if isinstance(module, KeptConv2d):
            part = deal(module.keep, num_branches)
            for i, branch in enumerate(branches):
                conv = branch.get_submodule(name)
                assert isinstance(conv, KeptConv2d)
                conv.weight = module.weight
                conv.keep.copy_(part == i)
    return branches
