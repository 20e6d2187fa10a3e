"""Pre-activation ResNet-18 with a width factor (He et al. 2016, 1603.05027), the network of MixMo on Tiny ImageNet."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from benchmark.networks.backbone import Backbone, ConvLayer, Head, LinearLayer, NormLayer, conv3x3
from benchmark.networks.wide_resnet import PreActBlock


@dataclass(frozen=True)
class PreActResNet:
    """PreActResNet-18: four groups of two blocks with 64, 128, 256 and 512 times `width` channels; the stem has 64.

    `stem_stride: 2` is MixMo's for 64x64 images. Normalisation and ReLU stand before pooling, as in He et al.;
    MixMo's released network has neither there.
    """

    width: Annotated[int, Field(ge=1, le=100)] = 1
    stem_stride: Literal[1, 2] = 1

    def build(
        self,
        in_channels: int,
        num_outputs: int,
        conv: ConvLayer = nn.Conv2d,
        norm: NormLayer = nn.BatchNorm2d,
        linear: LinearLayer = nn.Linear,
    ) -> Backbone:
        channels, groups = 64, []
        for i in range(4):
            out_channels = 64 * 2**i * self.width
            groups.append(
                nn.Sequential(
                    PreActBlock(channels, out_channels, 1 if i == 0 else 2, conv, norm),
                    PreActBlock(out_channels, out_channels, 1, conv, norm),
                )
            )
            channels = out_channels
        stem = conv3x3(conv, in_channels, 64, self.stem_stride)
        return Backbone(stem, groups, Head(norm(channels), linear(channels, num_outputs)))
