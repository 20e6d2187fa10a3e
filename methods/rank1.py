"""Layers that hold M networks as one shared weight and two vectors per member: W_m = W o (s_m r_m^T).

BatchEnsemble, Wen et al. 2020 (2002.06715), equations 1 to 5. Rows come member by member: of R rows the m-th block of
R/M goes through member m. The paper computes s_m o (W (x o r_m)), scaling activations; here the vectors are folded into
M kernels, the same function with less memory traffic, since kernels are smaller than activations.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FastInit = Literal["random_sign", "normal"]


class Rank1Conv2d(nn.Conv2d):
    """Convolution with rank-1 members: x_RCHW -> y_RCHW. `r` is [M, C_in], `s` is [M, C_out], a bias each member's own."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        padding: int,
        bias: bool,
        num_members: int,
        fast_init: FastInit,
    ):
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.r = fast_weights(num_members, in_channels, fast_init)
        self.s = fast_weights(num_members, out_channels, fast_init)
        self.member_bias = nn.Parameter(torch.zeros(num_members, out_channels)) if bias else None

    def forward(self, x_RCHW: Tensor) -> Tensor:
        kernels = self.weight * self.s[:, :, None, None, None] * self.r[:, None, :, None, None]
        biases = [None] * len(kernels) if self.member_bias is None else self.member_bias
        blocks = zip(blocks_of(x_RCHW, len(kernels)), kernels, biases, strict=True)
        return torch.cat([F.conv2d(x, kernel, b, self.stride, self.padding) for x, kernel, b in blocks])


class Rank1Linear(nn.Linear):
    """Linear layer with rank-1 members and a bias of each member's own: x_RI -> y_RO."""

    def __init__(self, in_features: int, out_features: int, num_members: int, fast_init: FastInit):
        super().__init__(in_features, out_features, bias=False)
        self.r = fast_weights(num_members, in_features, fast_init)
        self.s = fast_weights(num_members, out_features, fast_init)
        self.member_bias = nn.Parameter(torch.zeros(num_members, out_features))

    def forward(self, x_RI: Tensor) -> Tensor:
        weights = self.weight * self.s[:, :, None] * self.r[:, None, :]
        blocks = blocks_of(x_RI, len(weights))
        return torch.cat([F.linear(x, w, b) for x, w, b in zip(blocks, weights, self.member_bias, strict=True)])


def blocks_of(rows: Tensor, num_members: int) -> tuple[Tensor, ...]:
    """Each member's rows. Not by tensor_split, whose gradient is a sum of M tensors of all rows, each all but zero."""
    shorter, num_longer = divmod(len(rows), num_members)
    return rows.split([shorter + (m < num_longer) for m in range(num_members)])


def fast_weights(num_members: int, size: int, init: FastInit) -> nn.Parameter:
    """[M, size], each entry +1 or -1 with equal chance (the paper), or drawn from N(1, 0.5²) (the released code)."""
    if init == "random_sign":
        return nn.Parameter(torch.randint(0, 2, (num_members, size)).mul(2.0).sub(1.0))
    return nn.Parameter(torch.empty(num_members, size).normal_(1.0, 0.5))
