"""A task's images in memory: splits without leakage, corrupted copies, out-of-distribution sets.

Shapes: N images of a split, CHW one image, K classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmark.config import TaskConfig
from benchmark.data import cache
from benchmark.data.catalogue import DATASETS
from benchmark.data.images import Split, channel_statistics, fingerprint, fit
from benchmark.data.readers import Decoded
from benchmark.data.shifted import Shifted
from benchmark.data.sources import Location, find
from benchmark.data.splits import SPLIT_SEED, content_order, stratified
from benchmark.errors import UserError

__all__ = ["Location", "Split", "TaskData", "load"]


@dataclass(frozen=True, eq=False)
class TaskData:
    """All images that a run of a task trains on or is scored on."""

    train: Split
    validation: Split
    test: Split
    shifted: Mapping[str, Split]
    """Corrupted copies of the test images, keys such as `gaussian_noise/3`; each is made when it is asked for."""
    out_of_distribution: dict[str, Split]
    """Test images of other sets in the task's shape. Their labels are their own."""
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    """(C, H, W)"""
    mean_C: tuple[float, ...]
    std_C: tuple[float, ...]
    """Of the images that are trained on, pixel values in [0, 1]."""
    fingerprint: str
    """sha256 over the contents of train, validation and test. Equal on every machine and for every seed."""

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def record(self) -> dict[str, Any]:
        """JSON-able facts for a run's row."""
        return {
            "fingerprint": self.fingerprint,
            "split_seed": SPLIT_SEED,
            "num_images": {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)},
            "num_out_of_distribution": {name: len(split) for name, split in self.out_of_distribution.items()},
            "num_classes": self.num_classes,
            "image_shape": list(self.image_shape),
            "mean": list(self.mean_C),
            "std": list(self.std_C),
            "shifted": self.shifted.record() if isinstance(self.shifted, Shifted) else None,
        }


def load(task: TaskConfig, location: Location) -> TaskData:
    """Find, decode and split a task's images.

    Validation images are carved from the training set before a training subset is taken. `train_images` counts the
    images that are trained on, validation images come on top: by default a tenth of `train_images` where that is
    given, else of the training set.
    """
    train_set, test_set = _read_both(task, location)
    num_train, num_validation = training_counts(task, len(train_set.labels_N))
    held_out, trained_on = _divide(train_set, content_order(train_set.images_NHWC, train_set.labels_N), num_validation)
    trained_on, _ = _divide(train_set, trained_on, num_train)
    tested_on = _test_subset(test_set, task.test_images)
    train, validation = _split(train_set, trained_on), _split(train_set, held_out)
    test = _split(test_set, tested_on)
    mean_C, std_C = channel_statistics(train.images_NHWC)
    height, width, channels = train.images_NHWC.shape[1:]
    image_shape = (channels, height, width)
    return TaskData(
        train=train,
        validation=validation,
        test=test,
        shifted=Shifted(task.shifted, task.dataset, test, test_set, tested_on, location) if task.shifted else {},
        out_of_distribution={
            name: _out_of_distribution(name, location, image_shape, len(test)) for name in task.out_of_distribution
        },
        class_names=train_set.class_names,
        image_shape=image_shape,
        mean_C=mean_C,
        std_C=std_C,
        fingerprint=fingerprint(train, validation, test),
    )


def _read_both(task: TaskConfig, location: Location) -> tuple[Decoded, Decoded]:
    train_set, test_set = (
        cache.fetch(find(task.dataset, part, location, folder=task.folder, image_size=task.image_size), location)
        for part in ("train", "test")
    )
    name = task.folder or task.dataset
    if len(train_set.labels_N) == 0:
        raise UserError(f"dataset {name} has no training images, it is only for out_of_distribution")
    if train_set.class_names != test_set.class_names:
        differing = sorted(set(train_set.class_names) ^ set(test_set.class_names))
        shown = ", ".join(differing[:5]) + (" …" if len(differing) > 5 else "")
        raise UserError(f"{name}: the classes of train and test differ ({shown or 'another order'})")
    expected = DATASETS[task.dataset].num_classes
    if expected is not None and len(train_set.class_names) != expected:
        raise UserError(f"{name}: found {len(train_set.class_names)} classes, it has {expected}")
    return train_set, test_set


def training_counts(task: TaskConfig, available: int) -> tuple[int, int]:
    """How many images are trained on and held out."""
    if task.train_on == "full":
        num_validation = 0
    elif task.validation_images is not None:
        num_validation = task.validation_images
    else:
        num_validation = max(1, (task.train_images or available) // 10)
    num_train = task.train_images if task.train_images is not None else available - num_validation
    if num_train < 1:
        raise UserError(
            f"validation_images: {num_validation} leave none of the {available} training images of {task.dataset}"
        )
    if num_train + num_validation > available:
        raise UserError(
            f"train_images: {num_train} and {num_validation} validation images are more than "
            f"the {available} training images of {task.dataset}"
        )
    return num_train, num_validation


def _divide(images: Decoded, chosen: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` of the chosen positions, stratified, and the others; both keep their order."""
    is_taken = stratified(images.labels_N[chosen], count)
    return chosen[is_taken], chosen[~is_taken]


def _test_subset(test_set: Decoded, count: int | None) -> np.ndarray:
    available = len(test_set.labels_N)
    if count is not None and count > available:
        raise UserError(f"test_images: {count} are more than the {available} test images")
    taken, _ = _divide(test_set, content_order(test_set.images_NHWC, test_set.labels_N), count or available)
    return taken


def _split(images: Decoded, chosen: np.ndarray) -> Split:
    return Split(torch.from_numpy(images.images_NHWC[chosen]), torch.from_numpy(images.labels_N[chosen]))


def _out_of_distribution(name: str, location: Location, image_shape: tuple[int, int, int], most: int) -> Split:
    """A set's test images in the task's shape, at most as many as the task has test images."""
    test_set = cache.fetch(find(name, "test", location), location)
    split = _split(test_set, _test_subset(test_set, min(most, len(test_set.labels_N))))
    return Split(fit(split.images_NHWC, image_shape), split.labels_N)
