"""What the networks have in common: a stem, groups and a head, built from layers passed in.

A method that needs other convolutions, more inputs or outputs, several stems or exits takes these parts as they are
and copies no network.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional as F


class ConvLayer(Protocol):
    """Makes a convolution without bias: nn.Conv2d, or a method's own subclass of it."""

    def __call__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int, padding: int, bias: bool
    ) -> nn.Module: ...


NormLayer = Callable[[int], nn.Module]
LinearLayer = Callable[[int, int], nn.Module]


class Backbone(nn.Module):
    """x_BCHW -> logits_BK by `head(groups[-1](… groups[0](stem(x))))`.

    `stem` is the first convolution alone, so that its outputs can be summed or mixed (MIMO, MixMo). `head` ends in
    global average pooling and a linear layer.
    """

    def __init__(self, stem: nn.Module, groups: Sequence[nn.Module], head: nn.Module):
        super().__init__()
        self.stem = stem
        self.groups = nn.ModuleList(groups)
        self.head = head
        initialise(self)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.trunk(self.stem(x_BCHW))

    def trunk(self, features: Tensor) -> Tensor:
        """What follows the stem: its features -> logits_BK."""
        for group in self.groups:
            features = group(features)
        return self.head(features)


class Head(nn.Module):
    """Last normalisation (or nothing), ReLU, global average pooling, linear layer."""

    def __init__(self, norm: nn.Module, classifier: nn.Module):
        super().__init__()
        self.norm = norm
        self.classifier = classifier

    def forward(self, features: Tensor) -> Tensor:
        return self.classifier(F.relu(self.norm(features)).mean(dim=(2, 3)))


def conv3x3(conv: ConvLayer, in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    return conv(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


def conv1x1(conv: ConvLayer, in_channels: int, out_channels: int, stride: int = 1) -> nn.Module:
    return conv(in_channels, out_channels, kernel_size=1, stride=stride, padding=0, bias=False)


def initialise(network: nn.Module) -> None:
    """Kaiming-normal with fan-out for convolutions (He et al. 2015), torch's default for linear weights, zero biases."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
