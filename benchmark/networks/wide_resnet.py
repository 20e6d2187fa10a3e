"""Wide residual networks (Zagoruyko & Komodakis 2016, 1605.07146), for images of any size from 8x8."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.networks.backbone import Backbone, ConvLayer, Head, LinearLayer, NormLayer, conv1x1, conv3x3


@dataclass(frozen=True)
class WideResNet:
    """WRN-depth-width: three groups of (depth - 4) / 6 pre-activation blocks with 16, 32 and 64 times `width` channels.

    WRN-28-10 has 36,479,194 parameters for 10 classes. Two networks go by that name: `stride_in: first` puts the
    stride into a block's first 3x3 convolution (the usual one, 5.243 G multiply-adds at 32x32), `second` into its
    second (the port that NFE and Prune-and-Tune start from, 5.951 G).
    """

    depth: Annotated[int, Field(ge=10, le=1000)] = 28
    width: Annotated[int, Field(ge=1, le=100)] = 10
    stride_in: Literal["first", "second"] = "first"

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
                    PreActBlock(channels, base * self.width, stride if i == 0 else 1, conv, norm, self.stride_in)
                )
                channels = base * self.width
            groups.append(nn.Sequential(*blocks))
        return Backbone(conv3x3(conv, in_channels, 16), groups, Head(norm(channels), linear(channels, num_outputs)))


class PreActBlock(nn.Module):
    """BN-ReLU-3x3-BN-ReLU-3x3 plus identity; where the shape changes, a 1x1 convolution of the activated input."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        conv: ConvLayer,
        norm: NormLayer,
        stride_in: Literal["first", "second"] = "first",
    ):
        super().__init__()
        strides = (stride, 1) if stride_in == "first" else (1, stride)
        self.norm1 = norm(in_channels)
        self.conv1 = conv3x3(conv, in_channels, out_channels, strides[0])
        self.norm2 = norm(out_channels)
        self.conv2 = conv3x3(conv, out_channels, out_channels, strides[1])
        changes_shape = stride != 1 or in_channels != out_channels
        self.shortcut = conv1x1(conv, in_channels, out_channels, stride) if changes_shape else None

    def forward(self, x: Tensor) -> Tensor:
        activated = F.relu(self.norm1(x))
        residual = self.conv2(F.relu(self.norm2(self.conv1(activated))))
        return residual + (x if self.shortcut is None else self.shortcut(activated))
