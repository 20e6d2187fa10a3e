"""Network Fission Ensembles: one network split into weight groups with several exits (Lee & Kim 2024, 2408.02301).

(1) Optional pruning at initialisation keeps a share 1 - sparsity of all convolution weights. (2) Fission: behind the
first group of layers the kept weights of every convolution are dealt at random to as many branches as run there (see
fission.py), so that branches hold disjoint weights and together exactly the kept ones. Each branch has its own batch
normalisation, each exit its own head. (3) All exits train together with ensemble knowledge distillation,
L = sum_n CE(z_n, y) + T² sum_n KL(softmax(z_E / T) || softmax(z_n / T)), z_E = mean_n z_n without gradient.
(4) The members are the exits; the paper's prediction is the mean of their logits.

Every weight is stored once; a branch convolves with weight o mask. What is executed is dense all the same: 1.68 (N = 2)
and 2.02 (N = 3) forward passes of one WRN-28-10, which the counted nonzero weights don't show. `grouping: channels`
really saves (channel_groups.py). Where the released code differs, `variant: released` follows it.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from benchmark.method import Done, Method, Stage, Task
from methods.channel_groups import split_channels
from methods.distillation import joint_loss
from methods.fission import FissionNetwork, branch_parts, split_gradients, split_weights, zero_pruned
from methods.masks import GradientMaskedConv2d, KeptConv2d, prune
from methods.pruning import Criterion, SnipScoring, keep_at_start, spare_pointwise
from methods.variants import Differs, Variant, chosen

CODE = "hjdw2/NFE"
MOST_DRAWN = 3
"""Exits for which the released code says how groups are drawn."""


@dataclass(frozen=True)
class Nfe(Method):
    num_members: Annotated[int, Field(ge=1, le=100, description="exits; 1 is one network, pruned")] = 3
    sparsity: Annotated[float, Field(ge=0, lt=1, description="share of convolution weights pruned at the start")] = 0.0
    pruning: Annotated[
        Criterion,
        Field(
            description="what decides which weights are pruned: SNIP (1810.02340), random weights with SNIP's share in "
            "each layer, GraSP (2002.07376), SynFlow (2006.05467), random weights of all layers together"
        ),
    ] = "snip"
    snip_images: Annotated[int, Field(ge=1, description="training images that SNIP and GraSP score on")] = 512
    grouping: Annotated[
        Literal["weights", "channels", "dense"],
        Field(
            description="what is dealt to branches: single weights, as in the paper; whole channels, run as smaller dense "
            "convolutions; nothing, so that each has all weights of its own (a control without fission)"
        ),
    ] = "weights"
    balance: Annotated[
        str | None,
        Field(
            pattern=r"^[1-9]\d{0,2}(:[1-9]\d{0,2})+$",
            description="parts of the exits in order, such as 1:3; default equal. A branch on the way to several exits "
            "gets the mean of theirs",
        ),
    ] = None
    distillation: Annotated[bool, Field(description="ensemble knowledge distillation; false: cross-entropy alone")] = (
        True
    )
    temperature: Annotated[float, Field(gt=0, description="T of the distillation")] = 3.0
    variant: Variant = "paper"
    pruned_weights: Annotated[
        Literal["zero", "decaying"] | None,
        Differs("zero", "decaying", f"2408.02301: masked; {CODE}:train_exit12.py:364-369 masks gradients alone"),
        Field(
            description="weights outside of a branch's part: zero, or dense from the start, each branch its own, and "
            "shrunk by weight decay alone"
        ),
    ] = None
    snip_loss: Annotated[
        Literal["cross_entropy", "label_logit"] | None,
        Differs("cross_entropy", "label_logit", f"1810.02340, equation 6; {CODE}:snip.py:32, nll_loss of raw logits"),
        Field(description="whose gradient SNIP scores with"),
    ] = None
    snip_network: Annotated[
        Literal["trained", "redrawn"] | None,
        Differs("trained", "redrawn", f"1810.02340, algorithm 1; {CODE}:snip.py:18-24, train_exit12.py:84-88,110"),
        Field(description="whose weights SNIP scores: those that are then trained, or others, drawn Xavier-normal"),
    ] = None
    group_draws: Annotated[
        Literal["partition", "independent"] | None,
        Differs("partition", "independent", f"2408.02301: groups; {CODE}:train_exit12.py:98-108, train_exit1.py:89-97"),
        Field(
            description="equal parts of a partition, or independent draws for each position, of which those for three "
            "branches overlap in 1/9, where the second one's gradient changes its sign; up to three exits"
        ),
    ] = None
    pointwise: Annotated[
        Literal["split", "whole"] | None,
        Differs("split", "whole", f"2408.02301 counts each weight once; {CODE}:train_exit12.py:360-361 skips 1x1"),
        Field(description="1x1 convolutions: pruned and dealt like all others, or each branch its own, unpruned"),
    ] = None

    def __post_init__(self) -> None:
        fission_options = [self.pruned_weights, self.group_draws, self.pointwise]
        if self.grouping != "weights" and (self.variant != "paper" or any(fission_options)):
            raise ValueError(
                "nfe: variant, pruned_weights, group_draws and pointwise differ for grouping: weights alone"
            )
        if self.grouping == "dense" and (self.sparsity or self.balance):
            raise ValueError("nfe: grouping: dense keeps all weights; drop sparsity and balance")
        if self.balance and len(self._exit_parts) != self.num_members:
            raise ValueError(
                f"nfe: balance {self.balance} has {len(self._exit_parts)} parts for {self.num_members} exits"
            )
        if chosen(self, "group_draws") == "independent" and (self.balance or self.num_members > MOST_DRAWN):
            raise ValueError(f"nfe: group_draws: independent (released) takes up to {MOST_DRAWN} exits and no balance")

    @property
    def _exit_parts(self) -> list[int]:
        return [int(part) for part in self.balance.split(":")] if self.balance else [1] * self.num_members

    def start(self, stage: Stage, task: Task, done: Done) -> nn.Module:
        independent = chosen(self, "group_draws") == "independent"
        owned = independent or chosen(self, "pruned_weights") == "decaying"
        split_pointwise = chosen(self, "pointwise") == "split"
        conv = nn.Conv2d if self.grouping == "dense" else GradientMaskedConv2d if owned else KeptConv2d
        networks = [task.network(conv=conv) for _ in range(self.num_members)]
        if self.sparsity > 0:
            scoring = SnipScoring(chosen(self, "snip_loss"), chosen(self, "snip_network") == "redrawn")
            keep = keep_at_start(self.pruning, networks[0], task, self.sparsity, self.snip_images, scoring)
            prune(networks[0], keep if split_pointwise else spare_pointwise(keep))
        parts = branch_parts(self._exit_parts, len(networks[0].groups))
        if self.grouping == "channels":
            return split_channels(networks, parts)
        network = FissionNetwork.of(networks, [len(parts_of_group) for parts_of_group in parts])
        for branches, parts_of_group in zip(network.groups, parts, strict=True):
            if owned:
                split_gradients(branches, parts_of_group, split_pointwise, independent)
            elif self.grouping == "weights":
                split_weights(branches, parts_of_group, split_pointwise)
        if chosen(self, "pruned_weights") == "zero":
            zero_pruned(network)
        return network

    def loss(self, network: nn.Module, x_SBCHW: Tensor, y_SBK: Tensor, progress: float) -> Tensor:
        return joint_loss(network(x_SBCHW[0]), y_SBK[0], self.distillation, self.temperature)

    def predict(self, done: Done, x_BCHW: Tensor) -> Tensor:
        return done["main"](x_BCHW)
