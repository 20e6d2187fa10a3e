"""Residual networks for 32x32 images (He et al. 2016, 1512.03385; the stem is a 3x3 convolution without pooling)."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.networks.backbone import Backbone, ConvLayer, Head, LinearLayer, NormLayer, conv1x1, conv3x3

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


@dataclass(frozen=True)
class ResNet:
    """ResNet-18, -34 (basic blocks) or -50 (bottlenecks). ResNet-18 has 11,173,962 parameters for 10 classes."""

    depth: Literal[18, 34, 50] = 18

    def build(
        self,
        in_channels: int,
        num_outputs: int,
        conv: ConvLayer = nn.Conv2d,
        norm: NormLayer = nn.BatchNorm2d,
        linear: LinearLayer = nn.Linear,
    ) -> Backbone:
        block, expansion = (Bottleneck, 4) if self.depth >= 50 else (BasicBlock, 1)
        channels, groups = 64, []
        for i, num_blocks in enumerate(BLOCKS[self.depth]):
            width = 64 * 2**i
            # The stem is the convolution alone, so what follows it opens the first group.
            layers: list[nn.Module] = [norm(64), nn.ReLU()] if i == 0 else []
            for j in range(num_blocks):
                layers.append(block(channels, width, 2 if i > 0 and j == 0 else 1, conv, norm))
                channels = width * expansion
            groups.append(nn.Sequential(*layers))
        # Blocks end in a ReLU, so the head's own is the identity.
        return Backbone(conv3x3(conv, in_channels, 64), groups, Head(nn.Identity(), linear(channels, num_outputs)))


class BasicBlock(nn.Module):
    """3x3-BN-ReLU-3x3-BN plus shortcut, then ReLU."""

    def __init__(self, in_channels: int, width: int, stride: int, conv: ConvLayer, norm: NormLayer):
        super().__init__()
        self.conv1, self.norm1 = conv3x3(conv, in_channels, width, stride), norm(width)
        self.conv2, self.norm2 = conv3x3(conv, width, width), norm(width)
        self.shortcut = projection(in_channels, width, stride, conv, norm)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(residual + self.shortcut(x))


class Bottleneck(nn.Module):
    """1x1-BN-ReLU-3x3-BN-ReLU-1x1-BN with four times `width` outputs, plus shortcut, then ReLU; stride in the 3x3."""

    def __init__(self, in_channels: int, width: int, stride: int, conv: ConvLayer, norm: NormLayer):
        super().__init__()
        self.conv1, self.norm1 = conv1x1(conv, in_channels, width), norm(width)
        self.conv2, self.norm2 = conv3x3(conv, width, width, stride), norm(width)
        self.conv3, self.norm3 = conv1x1(conv, width, 4 * width), norm(4 * width)
        self.shortcut = projection(in_channels, 4 * width, stride, conv, norm)

    def forward(self, x: Tensor) -> Tensor:
        residual = F.relu(self.norm1(self.conv1(x)))
        residual = F.relu(self.norm2(self.conv2(residual)))
        return F.relu(self.norm3(self.conv3(residual)) + self.shortcut(x))


def projection(in_channels: int, out_channels: int, stride: int, conv: ConvLayer, norm: NormLayer) -> nn.Module:
    """Identity, or 1x1 convolution and normalisation where the shape changes (option B of the paper)."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(conv1x1(conv, in_channels, out_channels, stride), norm(out_channels))
