"""The data sets and corruptions a study may name. No torch, so that a study file is checked in no time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Dataset:
    """What is known of a data set before it is read. None: read it to know (`folder`)."""

    num_classes: int | None
    image_shape: tuple[int, int, int] | None
    num_train: int | None
    num_test: int | None


DATASETS = {
    "digits": Dataset(10, (1, 8, 8), 1_297, 500),
    "cifar10": Dataset(10, (3, 32, 32), 50_000, 10_000),
    "cifar100": Dataset(100, (3, 32, 32), 50_000, 10_000),
    "tinyimagenet": Dataset(200, (3, 64, 64), 100_000, 10_000),
    "photos": Dataset(2, (3, 32, 32), 0, 500),
    "folder": Dataset(None, None, None, None),
}

CORRUPTION_KINDS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "speckle_noise",
    "gaussian_blur",
    "defocus_blur",
    "brightness",
    "contrast",
    "saturate",
    "pixelate",
    "jpeg_compression",
)
