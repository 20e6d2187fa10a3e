"""MixMo: two inputs mixed in feature space, two outputs (Rame, Sun & Cord 2021, 2103.06132).

M stems encode M images, l_m = c_m(x_m); the shared trunk sees l = M sum_m mask_m o l_m with sum_m mask_m = 1 (equation
4), and M heads answer. Linear mixing: mask_m = λ_m everywhere. Patch mixing (CutMix in features): one member has a box
of area share λ_m, the others the rest. λ ~ Dirichlet(α) per row. The loss of member m weighs
w_m = M λ_m^(1/r) / sum_k λ_k^(1/r) (equation 6). At test time all stems see the same image and mask_m = 1/M.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.method import Done, Method, Stage, Task
from benchmark.networks.backbone import Backbone
from methods.pairing import pair
from methods.patches import BoxSide, patch_masks
from methods.variants import Differs, Source, Variant, chosen

CODE = "alexrame/mixmo-pytorch:mixmo"


@dataclass(frozen=True)
class MixMo(Method):
    num_members: Annotated[int, Field(ge=2, le=100)] = 2
    variant: Variant = "paper"
    mixing: Annotated[
        Literal["linear", "patch"],
        Source(f"paper: Linear-MixMo and Cut-MixMo; {CODE}/augmentations/mixing_blocks.py:123-143"),
        Field(description="how features are mixed"),
    ] = "patch"
    patch_probability: Annotated[
        float,
        Source(f"paper, p; {CODE}/loaders/dataset_wrapper.py:180-205, one draw for a batch"),
        Field(ge=0, le=1, description="share of patch-mixed batches; the others are mixed linearly"),
    ] = 0.5
    patch_until: Annotated[
        float,
        Source(f"paper: the last twelfth; {CODE}/utils/config.py:11, {CODE}/loaders/dataset_wrapper.py:186-191"),
        Field(ge=0, lt=1, description="progress from which patch_probability falls linearly to 0"),
    ] = 11 / 12
    box_side: Annotated[
        BoxSide | None,
        Differs(
            "nearest",
            "even",
            f"paper: a box of area share λ; {CODE}/augmentations/mixing_blocks.py:436-453 halves a whole number, rounded down",
        ),
        Field(description="a box's side in features: the nearest whole number, or the next even one below"),
    ] = None
    alpha: Annotated[
        float,
        Source(f"paper, α; {CODE}/utils/misc.py:21-27, {CODE}/loaders/dataset_wrapper.py:206, for each row"),
        Field(ge=0, description="parameter of the Dirichlet distribution of λ; 0: equal shares, as in MIMO"),
    ] = 2.0
    weight_root: Annotated[
        float,
        Source(f"paper, equation 6; {CODE}/loaders/dataset_wrapper.py:269-283, the same from first to last epoch"),
        Field(gt=0, description="r: 1 weighs losses by λ, large r equally"),
    ] = 3.0
    batch_repetitions: Annotated[
        int,
        Source(f"paper, b; {CODE}/loaders/batch_repetition_sampler.py:31-38"),
        Field(ge=1, le=100, description="times each image of a batch is used; rows and training cost grow with it"),
    ] = 4

    @property
    def rows_per_image(self) -> int:
        return self.batch_repetitions

    def start(self, stage: Stage, task: Task, done: Done) -> nn.Module:
        return MixingNetwork(
            [task.network(num_outputs=self.num_members * task.num_classes) for _ in range(self.num_members)]
        )

    def loss(self, network: nn.Module, x_SBCHW: Tensor, y_SBK: Tensor, progress: float) -> Tensor:
        x_BCHW, y_BK = x_SBCHW[0], y_SBK[0]
        indices_MR = pair(len(x_BCHW), self.num_members, self.batch_repetitions, 0.0, x_BCHW.device)
        shares_RM = self._draw_shares(indices_MR.shape[1], x_BCHW.device)
        if self.mixing == "patch" and torch.rand(()).item() < self._patch_probability(progress):
            # The box is drawn for the size of the stem's features; clipped at the border, so shares are taken anew.
            assert isinstance(network, MixingNetwork)
            height, width = network.feature_size(x_BCHW)
            masks_RMHW = patch_masks(shares_RM, height, width, chosen(self, "box_side"))
            shares_RM = masks_RMHW.mean(dim=(2, 3))
        else:
            masks_RMHW = shares_RM[:, :, None, None]
        logits_RMK = network(x_BCHW[indices_MR], masks_RMHW)
        losses_RM = -(y_BK[indices_MR.T] * F.log_softmax(logits_RMK.to(y_BK.dtype), dim=-1)).sum(-1)
        return (self._loss_weights(shares_RM) * losses_RM).sum(1).mean()

    def predict(self, done: Done, x_BCHW: Tensor) -> Tensor:
        masks = x_BCHW.new_full((1, self.num_members, 1, 1), 1 / self.num_members)
        return done["main"](x_BCHW.expand(self.num_members, *x_BCHW.shape), masks).transpose(0, 1)

    def _draw_shares(self, num_rows: int, device: torch.device) -> Tensor:
        if self.alpha == 0:
            return torch.full((num_rows, self.num_members), 1 / self.num_members, device=device)
        alphas = torch.full((num_rows, self.num_members), self.alpha)  # drawn on the CPU, so on every device alike
        return torch.distributions.Dirichlet(alphas, validate_args=False).sample().to(device, non_blocking=True)

    def _patch_probability(self, progress: float) -> float:
        return self.patch_probability * min(1.0, (1 - progress) / (1 - self.patch_until))

    def _loss_weights(self, shares_RM: Tensor) -> Tensor:
        roots_RM = shares_RM ** (1 / self.weight_root)
        return self.num_members * roots_RM / roots_RM.sum(1, keepdim=True)


class MixingNetwork(nn.Module):
    """M stems, one trunk with M·K outputs. From M equal backbones: all stems, the trunk of the first."""

    def __init__(self, backbones: list[Backbone]):
        super().__init__()
        self.stems = nn.ModuleList([backbone.stem for backbone in backbones])
        self.groups, self.head = backbones[0].groups, backbones[0].head

    def forward(self, x_MRCHW: Tensor, masks_RMHW: Tensor) -> Tensor:
        """Images of each member and masks that sum to 1 over members, [R or 1, M, h or 1, w or 1] -> logits_RMK."""
        num_members = len(self.stems)
        masks = masks_RMHW.unbind(1)
        # The factor M keeps the scale of a sum of M stems, as in MIMO.
        mixed = sum(
            num_members * mask[:, None] * stem(x) for mask, stem, x in zip(masks, self.stems, x_MRCHW, strict=True)
        )
        for group in self.groups:
            mixed = group(mixed)
        return self.head(mixed).unflatten(1, (num_members, -1))

    def feature_size(self, x_BCHW: Tensor) -> tuple[int, int]:
        """Height and width of the stems' outputs."""
        stem = self.stems[0]
        assert isinstance(stem, nn.Conv2d)
        return -(-x_BCHW.shape[-2] // stem.stride[0]), -(-x_BCHW.shape[-1] // stem.stride[1])
