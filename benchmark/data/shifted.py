"""Corrupted copies of a task's test images: the published CIFAR-10-C and CIFAR-100-C files, or generated.

Published files (Hendrycks & Dietterich 2019) are one `<kind>.npy` per kind, 50,000x32x32x3, five blocks of the 10,000
test images in order of severity, and `labels.npy`. They are used where their labels say that their images stand in
the order of our test files; else the same kinds are generated, and the record says why.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.config import Shift
from benchmark.data.corruptions import SMALLEST_SIDE, corrupt
from benchmark.data.images import Split
from benchmark.data.readers import Decoded
from benchmark.data.sources import Location
from benchmark.errors import UserError

CORRUPTION_SEED = 0
PUBLISHED = {"cifar10": "CIFAR-10-C", "cifar100": "CIFAR-100-C"}


class Shifted(Mapping[str, Split]):
    """`gaussian_noise/3` -> Split, each made when it is asked for: all of CIFAR-10-C would take 1.7 GB."""

    def __init__(
        self, shift: Shift, dataset: str, test: Split, test_set: Decoded, tested_on: np.ndarray, location: Location
    ) -> None:
        """`tested_on` are the positions of the images of `test` in `test_set`, which has the order of its files."""
        self._shift = shift
        self._test = test
        self._tested_on = tested_on
        size = min(test.images_NHWC.shape[1:3])
        if size < SMALLEST_SIDE:
            raise UserError(f"shifted: images of {size} pixels can't be corrupted, it takes {SMALLEST_SIDE} or more")
        self._files, self._reason = _published(dataset, test_set, shift.kinds, location)
        self._keys = [f"{kind}/{severity}" for kind in shift.kinds for severity in shift.severities]

    def __getitem__(self, key: str) -> Split:
        if key not in self._keys:
            raise KeyError(key)
        kind, _, severity = key.partition("/")
        if kind in self._files:
            images_NHWC = self._from_file(self._files[kind], int(severity))
        else:
            images_NHWC = corrupt(self._test.images_NHWC.numpy(), kind, int(severity), CORRUPTION_SEED)
        return Split(torch.from_numpy(images_NHWC), self._test.labels_N)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def record(self) -> dict[str, Any]:
        """Which corruptions, and for each kind whether it came from published files."""
        return {
            "kinds": list(self._shift.kinds),
            "severities": list(self._shift.severities),
            "source": {kind: "file" if kind in self._files else "generated" for kind in self._shift.kinds},
            "reason": self._reason,
            "seed": CORRUPTION_SEED,
        }

    def _from_file(self, path: Path, severity: int) -> np.ndarray:
        blocks = np.load(path, mmap_mode="r", allow_pickle=False)
        first = (severity - 1) * (len(blocks) // 5)
        return np.ascontiguousarray(blocks[first + self._tested_on])


def _published(
    dataset: str, test_set: Decoded, kinds: list[str], location: Location
) -> tuple[dict[str, Path], str | None]:
    """Usable files by kind, and why the others are generated."""
    if dataset not in PUBLISHED:
        return {}, f"no published files for {dataset}"
    for place in location.places():
        root = place / PUBLISHED[dataset]
        if root.is_dir():
            break
    else:
        return {}, f"{PUBLISHED[dataset]} not found"
    num_test = len(test_set.labels_N)
    labels_N = _open(root / "labels.npy", (5 * num_test,))
    if labels_N is None or not np.array_equal(labels_N[:num_test], test_set.labels_N):
        reason = "labels.npy does not fit the order of the test files"
        print(f"{root}: {reason}; corrupted images are generated", file=sys.stderr)
        return {}, reason
    shape = (5 * num_test, *test_set.images_NHWC.shape[1:])
    files = {kind: root / f"{kind}.npy" for kind in kinds if _open(root / f"{kind}.npy", shape) is not None}
    missing = [kind for kind in kinds if kind not in files]
    if not missing:
        return files, None
    reason = f"no sound file for {', '.join(missing)}"
    print(f"{root}: {reason}; generated instead", file=sys.stderr)
    return files, reason


def _open(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """A .npy file of this shape as a memory map, without unpickling; None where it isn't one."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    is_sound = isinstance(array, np.ndarray) and array.shape == shape and array.dtype.kind in "iu"
    return array if is_sound and (len(shape) == 1 or array.dtype == np.uint8) else None
