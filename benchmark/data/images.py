"""Images in memory and what is computed from them: statistics, a fingerprint, another shape.

Shapes: N images of a split, HWC one image.
"""

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

SMALLEST_STD = 1e-3
"""Of pixel values in [0, 1]: a channel that never changes is normalised to 0, not to NaN."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one purpose. Compared by identity, so that streams of one split share one copy on the device."""

    images_NHWC: Tensor
    """uint8, contiguous, on the CPU."""
    labels_N: Tensor
    """int64"""

    def __len__(self) -> int:
        return len(self.labels_N)


def channel_statistics(images_NHWC: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of pixel values in [0, 1], from exact counts of the 256 values."""
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel_NHW in images_NHWC.unbind(-1):
        shares = torch.bincount(channel_NHW.reshape(-1), minlength=256).double() / channel_NHW.numel()
        mean = float(shares @ values)
        means.append(mean)
        stds.append(max(float(shares @ (values - mean) ** 2) ** 0.5, SMALLEST_STD))
    return tuple(means), tuple(stds)


def fingerprint(*splits: Split) -> str:
    """sha256 over shapes, pixels and labels."""
    digest = hashlib.sha256()
    for split in splits:
        digest.update(str(tuple(split.images_NHWC.shape)).encode())
        digest.update(split.images_NHWC.numpy().data)
        digest.update(split.labels_N.numpy().astype("<i8").data)
    return digest.hexdigest()


def fit(images_NHWC: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Images in another shape (C, H, W): bilinear with antialiasing, grey <-> RGB. uint8, contiguous.

    RGB to grey by the weights of ITU-R 601, as Pillow does.
    """
    channels, height, width = image_shape
    pieces = []
    for piece_NHWC in images_NHWC.split(1000):
        x_NCHW = piece_NHWC.permute(0, 3, 1, 2).float()
        if x_NCHW.shape[1] == 3 and channels == 1:
            x_NCHW = (x_NCHW * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        elif x_NCHW.shape[1] == 1 and channels == 3:
            x_NCHW = x_NCHW.expand(-1, 3, -1, -1)
        if tuple(x_NCHW.shape[2:]) != (height, width):
            x_NCHW = F.interpolate(x_NCHW, (height, width), mode="bilinear", antialias=True, align_corners=False)
        pieces.append(x_NCHW.round().clamp(0, 255).byte().permute(0, 2, 3, 1))
    return torch.cat(pieces).contiguous()
