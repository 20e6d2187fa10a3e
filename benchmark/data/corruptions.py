"""Corruptions in the manner of CIFAR-10-C (Hendrycks & Dietterich 2019), for images of any size from 8 pixels.

Constants are those of `make_cifar_c.py` in github.com/hendrycks/robustness, severities 1 to 5. Left out: kinds that
need files or libraries of their own (motion blur, snow, frost, spatter) and warps made for 32 pixels. Departures are
marked where they stand. Values are cut, not rounded, to whole numbers, as the published files were.

Shapes: N images, H x W pixels, C = 1 or 3 channels. `x_NHWC` is float32 in [0, 1].
"""

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from benchmark.data.catalogue import CORRUPTION_KINDS
from benchmark.errors import UserError, unknown

if TYPE_CHECKING:
    from PIL import Image

SMALLEST_SIDE = 8
NUM_SEVERITIES = 5
_PIECE = 1000
"""Images at a time, so that the noise of 10,000 images never stands in memory at once."""


def corrupt(images_NHWC: np.ndarray, kind: str, severity: int, seed: int) -> np.ndarray:
    """Corrupted copies, uint8. The same images, kind, severity and seed give the same pixels."""
    if kind not in CORRUPTION_KINDS:
        raise UserError(unknown("corruption", kind, CORRUPTION_KINDS))
    if not 1 <= severity <= NUM_SEVERITIES:
        raise UserError(f"severities are 1 to {NUM_SEVERITIES}, not {severity}")
    shape = images_NHWC.shape
    if images_NHWC.dtype != np.uint8 or len(shape) != 4 or shape[3] not in (1, 3) or min(shape[1:3]) < SMALLEST_SIDE:
        raise UserError(
            f"corruptions take uint8 images NHWC of 1 or 3 channels and {SMALLEST_SIDE} pixels or more, "
            f"not {images_NHWC.dtype} {shape}"
        )
    rng = np.random.default_rng([seed, severity, *kind.encode()])
    corrupted_NHWC = np.empty_like(images_NHWC)
    for first in range(0, len(images_NHWC), _PIECE):
        piece = slice(first, first + _PIECE)
        if kind in _ON_FILES:
            corrupted_NHWC[piece] = _ON_FILES[kind](images_NHWC[piece], severity - 1)
        else:
            x_NHWC = _ON_VALUES[kind](images_NHWC[piece].astype(np.float32) / 255, severity - 1, rng)
            # 1e-3: a value that didn't change must not drop by one through float32's rounding
            corrupted_NHWC[piece] = (np.clip(x_NHWC, 0, 1) * 255 + 1e-3).astype(np.uint8)
    return corrupted_NHWC


def _gaussian_noise(x_NHWC: np.ndarray, index: int, rng: np.random.Generator) -> np.ndarray:
    scale = (0.04, 0.06, 0.08, 0.09, 0.10)[index]
    return x_NHWC + scale * rng.standard_normal(x_NHWC.shape, dtype=np.float32)


def _shot_noise(x_NHWC: np.ndarray, index: int, rng: np.random.Generator) -> np.ndarray:
    photons = (500, 250, 100, 75, 50)[index]
    return rng.poisson(x_NHWC * photons).astype(np.float32) / photons


def _impulse_noise(x_NHWC: np.ndarray, index: int, rng: np.random.Generator) -> np.ndarray:
    """Salt and pepper in equal shares, each channel of a pixel for itself."""
    share = (0.01, 0.02, 0.03, 0.05, 0.07)[index]
    u_NHWC = rng.random(x_NHWC.shape, dtype=np.float32)
    return np.where(u_NHWC < share / 2, np.float32(0), np.where(u_NHWC < share, np.float32(1), x_NHWC))


def _speckle_noise(x_NHWC: np.ndarray, index: int, rng: np.random.Generator) -> np.ndarray:
    scale = (0.06, 0.10, 0.12, 0.16, 0.20)[index]
    return x_NHWC * (1 + scale * rng.standard_normal(x_NHWC.shape, dtype=np.float32))


def _gaussian_blur(x_NHWC: np.ndarray, index: int, rng: np.random.Generator) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    sigma = (0.4, 0.6, 0.7, 0.8, 1.0)[index]
    return gaussian_filter(x_NHWC, (0, sigma, sigma, 0), mode="nearest")


def _defocus_blur(x_NHWC: np.ndarray, index: int, rng: np.random.Generator) -> np.ndarray:
    """A disk, itself blurred by a 3x3 Gaussian."""
    from scipy.ndimage import convolve

    radius, sigma = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))[index]
    offset = np.arange(-2, 3)
    disk = (offset[:, None] ** 2 + offset**2 <= radius**2).astype(np.float32)
    taps = np.exp(-(np.arange(-1, 2) ** 2) / (2 * sigma**2))
    smoothing = np.outer(taps, taps) / taps.sum() ** 2
    kernel = convolve(disk / disk.sum(), smoothing, mode="constant")
    return convolve(x_NHWC, kernel[None, :, :, None].astype(np.float32), mode="mirror")


def _brightness(x_NHWC: np.ndarray, index: int, rng: np.random.Generator) -> np.ndarray:
    """The V of HSV is raised, hue and saturation stay: all channels times V' / V."""
    shift = np.float32((0.05, 0.10, 0.15, 0.20, 0.30)[index])
    value_NHW1 = x_NHWC.max(axis=-1, keepdims=True)
    raised_NHW1 = np.minimum(value_NHW1 + shift, 1)
    return np.where(value_NHW1 > 0, x_NHWC * (raised_NHW1 / np.maximum(value_NHW1, 1e-6)), raised_NHW1)


def _contrast(x_NHWC: np.ndarray, index: int, rng: np.random.Generator) -> np.ndarray:
    factor = np.float32((0.75, 0.5, 0.4, 0.3, 0.15)[index])
    mean_N11C = x_NHWC.mean(axis=(1, 2), keepdims=True)
    return (x_NHWC - mean_N11C) * factor + mean_N11C


def _saturate(x_NHWC: np.ndarray, index: int, rng: np.random.Generator) -> np.ndarray:
    """The S of HSV is scaled and shifted. Grey pixels have hue 0: they turn reddish where there is a shift.

    Images of one channel go through RGB and back, so severities 1 to 3 leave them as they are.
    """
    factor, shift = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))[index]
    rgb_NHW3 = np.repeat(x_NHWC, 3, axis=-1) if x_NHWC.shape[-1] == 1 else x_NHWC
    value_NHW1 = rgb_NHW3.max(axis=-1, keepdims=True)
    spread_NHW1 = value_NHW1 - rgb_NHW3.min(axis=-1, keepdims=True)
    # each channel's distance from V in shares of the spread: what hue says of it
    hue_NHW3 = np.where(
        spread_NHW1 > 0,
        (value_NHW1 - rgb_NHW3) / np.maximum(spread_NHW1, 1e-6),
        np.asarray([0, 1, 1], dtype=np.float32),
    )
    saturation_NHW1 = np.clip(spread_NHW1 / np.maximum(value_NHW1, 1e-6) * factor + shift, 0, 1)
    changed_NHW3 = value_NHW1 * (1 - saturation_NHW1 * hue_NHW3)
    if x_NHWC.shape[-1] == 3:
        return changed_NHW3
    return (changed_NHW3 @ np.asarray([0.299, 0.587, 0.114], dtype=np.float32))[..., None]


def _pixelate(images_NHWC: np.ndarray, index: int) -> np.ndarray:
    from PIL import Image

    share = (0.95, 0.9, 0.85, 0.75, 0.65)[index]
    height, width = images_NHWC.shape[1:3]
    small = (int(width * share), int(height * share))

    def pixelate(image: Image.Image) -> Image.Image:
        return image.resize(small, Image.Resampling.BOX).resize((width, height), Image.Resampling.BOX)

    return np.stack([np.asarray(pixelate(_as_image(image))) for image in images_NHWC]).reshape(images_NHWC.shape)


def _jpeg_compression(images_NHWC: np.ndarray, index: int) -> np.ndarray:
    from PIL import Image

    quality = (80, 65, 58, 50, 40)[index]
    compressed = []
    for image_HWC in images_NHWC:
        content = io.BytesIO()
        _as_image(image_HWC).save(content, "JPEG", quality=quality)
        compressed.append(np.asarray(Image.open(content)))
    return np.stack(compressed).reshape(images_NHWC.shape)


def _as_image(image_HWC: np.ndarray) -> "Image.Image":
    """Grey or RGB."""
    from PIL import Image

    return Image.fromarray(image_HWC[..., 0] if image_HWC.shape[-1] == 1 else image_HWC)


_ON_VALUES: dict[str, Callable[[np.ndarray, int, np.random.Generator], np.ndarray]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "speckle_noise": _speckle_noise,
    "gaussian_blur": _gaussian_blur,
    "defocus_blur": _defocus_blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "saturate": _saturate,
}
_ON_FILES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "pixelate": _pixelate,
    "jpeg_compression": _jpeg_compression,
}
