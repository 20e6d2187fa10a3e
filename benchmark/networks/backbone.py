"""What the networks have in common: a stem, groups and a head, built from layers passed in.

A method that needs other convolutions, more inputs or outputs, several stems or exits takes these parts as they are
and copies no network.
"""

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, Protocol

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F


class ConvLayer(Protocol):
    """Makes a convolution: nn.Conv2d, or a method's own subclass of it."""

    def __call__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int, padding: int, bias: bool
    ) -> nn.Module: ...


NormLayer = Callable[[int], nn.Module]
LinearLayer = Callable[[int, int], nn.Module]

Initialisation = Annotated[
    Literal["kaiming_fan_out", "truncated_he"],
    Field(
        description="kaiming_fan_out: of convolutions, the classifier as torch has it (hjdw2/NFE:wrn.py:54-59); "
        "truncated_he: of both, by fan-in, cut at two standard deviations (Keras' he_normal, of uncertainty-baselines; "
        "alexrame/mixmo-pytorch:mixmo/utils/torchutils.py:77-137)"
    ),
]


class Backbone(nn.Module):
    """x_BCHW -> logits_BK by `head(groups[-1](… groups[0](stem(x))))`.

    `stem` is the first convolution alone, so that its outputs can be summed or mixed (MIMO, MixMo). `head` ends in
    global average pooling and a linear layer.
    """

    def __init__(
        self,
        stem: nn.Module,
        groups: Sequence[nn.Module],
        head: nn.Module,
        initialisation: Initialisation = "kaiming_fan_out",
    ):
        super().__init__()
        self.stem = stem
        self.groups = nn.ModuleList(groups)
        self.head = head
        initialise(self, initialisation)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.trunk(self.stem(x_BCHW))

    def trunk(self, features: Tensor) -> Tensor:
        """What follows the stem: its features -> logits_BK."""
        for group in self.groups:
            features = group(features)
        return self.head(features)


class Head(nn.Module):
    """Last normalisation (or nothing), ReLU (or nothing), global average pooling, linear layer."""

    def __init__(self, norm: nn.Module, classifier: nn.Module, rectify: bool = True):
        super().__init__()
        self.norm = norm
        self.classifier = classifier
        self.rectify = rectify

    def forward(self, features: Tensor) -> Tensor:
        features = self.norm(features)
        return self.classifier((F.relu(features) if self.rectify else features).mean(dim=(2, 3)))


def conv3x3(conv: ConvLayer, in_channels: int, out_channels: int, stride: int = 1, bias: bool = False) -> nn.Module:
    return conv(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=bias)


def conv1x1(conv: ConvLayer, in_channels: int, out_channels: int, stride: int = 1, bias: bool = False) -> nn.Module:
    return conv(in_channels, out_channels, kernel_size=1, stride=stride, padding=0, bias=bias)


def initialise(network: nn.Module, initialisation: Initialisation = "kaiming_fan_out") -> None:
    """Draw the weights of convolutions and, for `truncated_he`, of linear layers (He et al. 2015); biases are zero."""
    for module in network.modules():
        if initialisation == "truncated_he" and isinstance(module, nn.Conv2d | nn.Linear):
            # A normal distribution cut at two standard deviations has 0.8796 of its standard deviation left.
            std = math.sqrt(2 / module.weight[0].numel()) / 0.87962566103423978
            nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
