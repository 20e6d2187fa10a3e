"""Wide residual networks (Zagoruyko & Komodakis 2016, 1605.07146), for images of any size from 8x8."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.networks.backbone import (
    Backbone,
    ConvLayer,
    Head,
    Initialisation,
    LinearLayer,
    NormLayer,
    conv1x1,
    conv3x3,
)


@dataclass(frozen=True)
class WideResNet:
    """WRN-depth-width: three groups of (depth - 4) / 6 pre-activation blocks with 16, 32 and 64 times `width` channels.

    WRN-28-10 has 36,479,194 parameters for 10 classes. Two networks go by that name: the usual one (5.243 G
    multiply-adds at 32x32), which the defaults are, and a port (5.951 G; meliketoy/wide-resnet.pytorch:networks/
    wide_resnet.py) that NFE and Prune-and-Tune start from with all of `stride_in: second`, `shortcut_from: input`,
    `conv_bias: true` and `last_norm_momentum: 0.9`, MixMo with the first two. uncertainty-baselines has the usual one
    with `shortcut_from: input`. MixMo also pads its strided convolutions on two sides alone
    (mixmo/networks/wrn.py:32-35), which no option here does.
    """

    depth: Annotated[int, Field(ge=10, le=1000)] = 28
    width: Annotated[int, Field(ge=1, le=100)] = 10
    stride_in: Annotated[
        Literal["first", "second"],
        Field(description="of a block's 3x3 convolutions; second in the port (hjdw2/NFE:wrn.py:18-20)"),
    ] = "first"
    shortcut_from: Annotated[
        Literal["activated", "input"],
        Field(
            description="what 1x1 shortcuts convolve: the block's input after its first normalisation and ReLU, or "
            "before them, as in the port (hjdw2/NFE:wrn.py:31) and in google/uncertainty-baselines:"
            "uncertainty_baselines/models/wide_resnet_batchensemble.py:83-91"
        ),
    ] = "activated"
    conv_bias: Annotated[
        bool, Field(description="biases of convolutions; true in the port (hjdw2/NFE:wrn.py:11,18,21,26)")
    ] = False
    last_norm_momentum: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="share of a batch in the running statistics of the normalisation before pooling; 0.9 in the "
            "port (hjdw2/NFE:wrn.py:51), where TensorFlow's 0.9, which is 0.1 here, was probably meant",
        ),
    ] = 0.1
    initialisation: Initialisation = "kaiming_fan_out"

    def __post_init__(self) -> None:
        if (self.depth - 4) % 6:
            raise ValueError(f"wide_resnet: depth must be 6n + 4 (10, 16, 22, 28, …), not {self.depth}")

    def build(
        self,
        in_channels: int,
        num_outputs: int,
        conv: ConvLayer = nn.Conv2d,
        norm: NormLayer = nn.BatchNorm2d,
        linear: LinearLayer = nn.Linear,
    ) -> Backbone:
        channels, groups = 16, []
        for base, stride in ((16, 1), (32, 2), (64, 2)):
            blocks = []
            for i in range((self.depth - 4) // 6):
                blocks.append(
                    PreActBlock(
                        channels,
                        base * self.width,
                        stride if i == 0 else 1,
                        conv,
                        norm,
                        stride_in=self.stride_in,
                        shortcut_from=self.shortcut_from,
                        bias=self.conv_bias,
                    )
                )
                channels = base * self.width
            groups.append(nn.Sequential(*blocks))
        stem = conv3x3(conv, in_channels, 16, bias=self.conv_bias)
        last_norm = norm(channels)
        if isinstance(last_norm, nn.BatchNorm2d):
            last_norm.momentum = self.last_norm_momentum
        return Backbone(stem, groups, Head(last_norm, linear(channels, num_outputs)), self.initialisation)


class PreActBlock(nn.Module):
    """BN-ReLU-3x3-BN-ReLU-3x3 plus identity; where the shape changes, a 1x1 convolution of the (activated) input."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        conv: ConvLayer,
        norm: NormLayer,
        *,
        stride_in: Literal["first", "second"] = "first",
        shortcut_from: Literal["activated", "input"] = "activated",
        bias: bool = False,
    ):
        super().__init__()
        strides = (stride, 1) if stride_in == "first" else (1, stride)
        self.norm1 = norm(in_channels)
        self.conv1 = conv3x3(conv, in_channels, out_channels, strides[0], bias)
        self.norm2 = norm(out_channels)
        self.conv2 = conv3x3(conv, out_channels, out_channels, strides[1], bias)
        changes_shape = stride != 1 or in_channels != out_channels
        self.shortcut = conv1x1(conv, in_channels, out_channels, stride, bias) if changes_shape else None
        self.shortcut_from = shortcut_from

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.norm1(x))
        residual = self.conv2(F.relu(self.norm2(self.conv1(activated))))
        if self.shortcut is None:
            return residual + x
        return residual + self.shortcut(activated if self.shortcut_from == "activated" else x)
