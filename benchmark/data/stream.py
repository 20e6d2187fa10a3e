"""Training batches, cut and augmented on the training device in a few tensor operations, no loader processes.

Shapes: N images of the split, B of a step, K classes, H x W pixels, P pixels of padding, C channels.

A stream is a function of the step: each batch can be computed alone, bit for bit, whatever was asked before, so a run
that was killed goes on with the images it would have seen. Draws come from the CPU, the same for every device.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.config import Augmentation
from benchmark.data.images import Split
from benchmark.errors import UserError
from benchmark.seeding import derive, generator


class Stream:
    """One shuffled and augmented copy of the training data.

    The last partial batch of an epoch is dropped, unless it is kept; each epoch has a fresh order, so it drops other
    images.
    """

    def __init__(
        self,
        split: Split,
        *,
        augmentation: Augmentation,
        label_smoothing: float,
        num_classes: int,
        mean_C: tuple[float, ...],
        std_C: tuple[float, ...],
        batch_size: int,
        seed: int,
        name: str,
        device: torch.device,
        channels_last: bool = True,
        last_batch: Literal["drop", "keep"] = "drop",
    ) -> None:
        if batch_size > len(split):
            raise UserError(f"batch_size {batch_size} is more than the {len(split)} training images")
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.steps_per_epoch = -(-len(split) // batch_size) if last_batch == "keep" else len(split) // batch_size
        self._seed = seed
        self._name = name
        self._device = device
        self._channels_last = channels_last
        self._mean_C = mean_C
        self._std_C = std_C
        self._height, self._width, self._channels = split.images_NHWC.shape[1:]
        self._padded_NHWC = _padded(split, augmentation.crop_padding, device)
        self._labels_N = split.labels_N.to(device)
        targets_KK = torch.eye(num_classes) * (1 - label_smoothing) + label_smoothing / num_classes
        self._targets_KK = targets_KK.to(device)
        self._rows_H = torch.arange(self._height, device=device)
        self._columns_W = torch.arange(self._width, device=device)
        self._mirrored_columns_W = self._columns_W.flip(0)
        self._draws: _Draws | None = None

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """x_BCHW float32, normalised, and y_BK, the target probabilities, of a step counted from 0."""
        epoch, position = divmod(step, self.steps_per_epoch)
        draws = self._draws_of(epoch)
        here = slice(position * self.batch_size, (position + 1) * self.batch_size)
        image_B = draws.order_N[here]
        x_BHWC = _normalised(self._crop_and_flip(draws, here, image_B), self._mean_C, self._std_C)
        if self.augmentation.cutout:
            covered_BHW = self._cutout(draws, here)
            x_BHWC.masked_fill_(covered_BHW[..., None], 0.0)
        y_BK = self._targets_KK[self._labels_N[image_B]]
        if self.augmentation.mixup:
            x_BHWC, y_BK = self._mixup(x_BHWC, y_BK, step)
        if self.augmentation.cutmix:
            y_BK = self._cutmix_(x_BHWC, y_BK, step)
        x_BCHW = x_BHWC.permute(0, 3, 1, 2)
        return (x_BCHW if self._channels_last else x_BCHW.contiguous()), y_BK

    def _draws_of(self, epoch: int) -> "_Draws":
        if self._draws is None or self._draws.epoch != epoch:
            self._draws = self._draw(epoch)
        return self._draws

    def _draw(self, epoch: int) -> "_Draws":
        """All draws of an epoch. Nothing is drawn conditionally: cutout on or off, the crops stay the same."""
        num_images = len(self._labels_N)
        order_N = torch.randperm(num_images, generator=generator(self._seed, self._name, "order", epoch))
        augment = generator(self._seed, self._name, "augment", epoch)

        def integers(high: int) -> Tensor:
            return torch.randint(high, (num_images,), generator=augment).to(self._device)

        offsets = 2 * self.augmentation.crop_padding + 1
        top_N, left_N = integers(offsets), integers(offsets)
        mirrored_N = integers(2).bool()
        return _Draws(
            epoch=epoch,
            order_N=order_N.to(self._device),
            top_N=top_N,
            left_N=left_N,
            mirrored_N=mirrored_N if self.augmentation.flip else torch.zeros_like(mirrored_N),
            cutout_row_N=integers(self._height),
            cutout_column_N=integers(self._width),
        )

    def _crop_and_flip(self, draws: "_Draws", here: slice, image_B: Tensor) -> Tensor:
        """uint8 images_BHWC by one gather of whole pixels: which row of all pixels each output pixel is.

        Indexing one dimension takes 0.4 of the time of indexing image, row and column (measured on a CPU).
        """
        padded_height, padded_width = self._padded_NHWC.shape[1:3]
        rows_BH = draws.top_N[here, None] + self._rows_H
        columns_BW = torch.where(draws.mirrored_N[here, None], self._mirrored_columns_W, self._columns_W)
        columns_BW = columns_BW + draws.left_N[here, None]
        rows_BH = (image_B[:, None] * padded_height + rows_BH) * padded_width
        pixels_BHW = rows_BH[:, :, None] + columns_BW[:, None, :]
        flat = self._padded_NHWC.view(-1, self._channels).index_select(0, pixels_BHW.view(-1))
        return flat.view(-1, self._height, self._width, self._channels)

    def _cutout(self, draws: "_Draws", here: slice) -> Tensor:
        """covered_BHW: a square around a uniform pixel, clipped at the border (DeVries & Taylor 2017)."""
        side = self.augmentation.cutout
        from_top_BH = self._rows_H - (draws.cutout_row_N[here, None] - side // 2)
        from_left_BW = self._columns_W - (draws.cutout_column_N[here, None] - side // 2)
        inside_BH = (from_top_BH >= 0) & (from_top_BH < side)
        inside_BW = (from_left_BW >= 0) & (from_left_BW < side)
        return inside_BH[:, :, None] & inside_BW[:, None, :]

    def _mixup(self, x_BHWC: Tensor, y_BK: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """One share for the batch, lambda ~ Beta(a, a), pairs by a permutation (Zhang et al. 2018)."""
        rng = self._mix_rng(step)
        share = float(rng.beta(self.augmentation.mixup, self.augmentation.mixup))
        partner_B = torch.from_numpy(rng.permutation(len(x_BHWC))).to(self._device)
        return x_BHWC.lerp(x_BHWC[partner_B], 1 - share), y_BK.lerp(y_BK[partner_B], 1 - share)

    def _cutmix_(self, x_BHWC: Tensor, y_BK: Tensor, step: int) -> Tensor:
        """A box of area share 1 - lambda from the partner, in place (Yun et al. 2019); labels by the area that shows."""
        rng = self._mix_rng(step)
        share = float(rng.beta(self.augmentation.cutmix, self.augmentation.cutmix))
        partner_B = torch.from_numpy(rng.permutation(len(x_BHWC))).to(self._device)
        side = (1 - share) ** 0.5
        rows = _clipped(int(rng.integers(self._height)), int(self._height * side), self._height)
        columns = _clipped(int(rng.integers(self._width)), int(self._width * side), self._width)
        x_BHWC[:, rows, columns] = x_BHWC[partner_B, rows, columns]
        shown = (rows.stop - rows.start) * (columns.stop - columns.start) / (self._height * self._width)
        return y_BK.lerp(y_BK[partner_B], shown)

    def _mix_rng(self, step: int) -> np.random.Generator:
        """numpy's: torch draws no Beta variable from a generator."""
        return np.random.default_rng(derive(self._seed, self._name, "mix", step))


def normalise(images_NHWC: Tensor, mean_C: tuple[float, ...], std_C: tuple[float, ...]) -> Tensor:
    """uint8 -> x_NCHW float32, (v / 255 - mean) / std in the arithmetic of training; channels_last in memory."""
    return _normalised(images_NHWC, mean_C, std_C).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _Draws:
    """One epoch of one stream. `_N` counts positions in the epoch's order, not images."""

    epoch: int
    order_N: Tensor
    top_N: Tensor
    left_N: Tensor
    mirrored_N: Tensor
    cutout_row_N: Tensor
    cutout_column_N: Tensor


def _normalised(images_NHWC: Tensor, mean_C: tuple[float, ...], std_C: tuple[float, ...]) -> Tensor:
    """Whole rows of L = W * C values at once: an inner loop over three channels takes eight times as long on a CPU."""
    height, width, channels = images_NHWC.shape[1:]
    scale_L, shift_L = _scale_and_shift(mean_C, std_C, width, images_NHWC.device)
    x_NHL = images_NHWC.reshape(-1, height, width * channels).float().mul_(scale_L).add_(shift_L)
    return x_NHL.view(-1, height, width, channels)


@lru_cache(maxsize=64)
def _scale_and_shift(
    mean_C: tuple[float, ...], std_C: tuple[float, ...], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """On the device once, not once a step."""
    scale_C = [1 / (255 * std) for std in std_C]
    shift_C = [-mean / std for mean, std in zip(mean_C, std_C, strict=True)]
    return torch.tensor(scale_C * width, device=device), torch.tensor(shift_C * width, device=device)


def _clipped(centre: int, side: int, limit: int) -> slice:
    start, stop = centre - side // 2, centre - side // 2 + side
    return slice(max(start, 0), min(stop, limit))


_PADDED: WeakKeyDictionary[Split, dict[tuple[int, torch.device], Tensor]] = WeakKeyDictionary()


def _padded(split: Split, padding: int, device: torch.device) -> Tensor:
    """uint8 images on the device with a black border, one copy for all streams of a split."""
    copies = _PADDED.setdefault(split, {})
    if (padding, device) not in copies:
        border = (0, 0, padding, padding, padding, padding)
        copies[padding, device] = F.pad(split.images_NHWC.to(device), border).contiguous()
    return copies[padding, device]
