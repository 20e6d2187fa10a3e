"""Pre-activation ResNet-18 with a width factor (He et al. 2016, 1603.05027), the network of MixMo on Tiny ImageNet."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from benchmark.networks.backbone import Backbone, ConvLayer, Head, Initialisation, LinearLayer, NormLayer, conv3x3
from benchmark.networks.wide_resnet import PreActBlock


@dataclass(frozen=True)
class PreActResNet:
    """PreActResNet-18: four groups of two blocks with 64, 128, 256 and 512 times `width` channels; the stem has 64.

    MixMo's released network has `stem_stride: 2` for its 64x64 images, `final_norm: false`, `classifier_std: 0.01` and
    `initialisation: truncated_he`.
    """

    width: Annotated[int, Field(ge=1, le=100)] = 1
    stem_stride: Annotated[
        Literal[1, 2], Field(description="2 in alexrame/mixmo-pytorch:mixmo/networks/resnet.py:107-110")
    ] = 1
    final_norm: Annotated[
        bool,
        Field(
            description="normalisation and ReLU before pooling, as in He et al.; neither is there in "
            "alexrame/mixmo-pytorch:mixmo/networks/resnet.py:190-196"
        ),
    ] = True
    classifier_std: Annotated[
        float | None,
        Field(
            gt=0,
            description="the classifier's weights start from N(0, std²), by default as `initialisation` says; 0.01 in "
            "alexrame/mixmo-pytorch:mixmo/utils/torchutils.py:126-127",
        ),
    ] = None
    initialisation: Initialisation = "kaiming_fan_out"

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
        classifier = linear(channels, num_outputs)
        last_norm = norm(channels) if self.final_norm else nn.Identity()
        network = Backbone(stem, groups, Head(last_norm, classifier, rectify=self.final_norm), self.initialisation)
        if self.classifier_std is not None and isinstance(classifier, nn.Linear):
            nn.init.normal_(classifier.weight, std=self.classifier_std)
        return network
