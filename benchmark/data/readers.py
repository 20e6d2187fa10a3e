"""Files of a data set -> images as uint8 arrays. torch is imported only where torchvision reads its own files.

CIFAR images decode at about 5,000 a second. Threads don't help: measured on two cores, two threads took 1.5 times as
long as one, since Pillow holds Python's lock for images this small.
"""

import hashlib
import io
import json
import os
import pickle
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from benchmark.data.catalogue import DATASETS
from benchmark.errors import UserError, one_line

TINY_IMAGENET_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""torchvision's ImageFolder takes these."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """One part of a data set in the order of its files: images_NHWC uint8, labels_N int64."""

    images_NHWC: np.ndarray
    labels_N: np.ndarray
    class_names: tuple[str, ...]


def read_parquet(dataset: str, shards: Sequence[Path]) -> Decoded:
    """Shards as on the Hugging Face hub: a column `img` or `image` (struct with `bytes`), `fine_label` or `label`."""
    import pyarrow
    import pyarrow.parquet as parquet

    height, width, class_names = _known_shape(dataset)
    images, labels = [], []
    for shard in shards:
        try:
            schema = parquet.read_schema(shard)
            image_column = _column(shard, schema.names, ("img", "image"))
            label_column = _column(shard, schema.names, ("fine_label", "label"))
            table = parquet.read_table(shard, columns=[image_column, label_column])
            encoded = [row["bytes"] for row in table[image_column].to_pylist()]
            labels.append(np.asarray(table[label_column].to_pylist(), dtype=np.int64))
        except (pyarrow.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{shard}: can't be read as Parquet images ({one_line(error)})") from None
        class_names = _hub_names(schema.metadata, label_column) or class_names
        decoded = np.empty((len(encoded), height, width, 3), np.uint8)
        for row, content in enumerate(encoded):
            image_HWC = _decode(io.BytesIO(content or b""), f"{shard}, row {row}")
            if image_HWC.shape != decoded.shape[1:]:
                raise UserError(f"{shard}, row {row}: image of {image_HWC.shape[:2]} pixels, not {height}x{width}")
            decoded[row] = image_HWC
        images.append(decoded)
    return _checked(np.concatenate(images), np.concatenate(labels), class_names, shards[0].parent)


def cifar_files(dataset: str, part: str, root: Path) -> tuple[Path, ...]:
    """torchvision's own files of one part below `root`, or none."""
    cls: Any = _torchvision_cifar(dataset, part)
    names = [name for name, _ in cls.train_list + cls.test_list]
    files = tuple(root / cls.base_folder / name for name in (*names, cls.meta["filename"]))
    return files if any(file.is_file() for file in files[:-1]) else ()


def read_cifar(dataset: str, part: str, root: Path) -> Decoded:
    """torchvision's own files, which are pickles."""
    cls: Any = _torchvision_cifar(dataset, part)
    folder = root / cls.base_folder
    meta = _unpickled(folder / cls.meta["filename"], cls.meta["md5"])
    batches = [_unpickled(folder / name, md5) for name, md5 in cls.train_list + cls.test_list]
    images_NCHW = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    labels = [label for batch in batches for label in batch["labels" if "labels" in batch else "fine_labels"]]
    class_names = tuple(meta[cls.meta["key"]])
    return _checked(images_NCHW.transpose(0, 2, 3, 1), np.asarray(labels, dtype=np.int64), class_names, folder)


def _unpickled(path: Path, md5: str) -> dict[str, Any]:
    """Of a pickle with the published md5, and even so nothing of it is executed. Raises UserError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); delete the folder") from None
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
        raise UserError(f"{path}: its md5 is not the published one; delete the folder")
    try:
        unpickled: dict[str, Any] = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise UserError(f"{path}: holds more than images ({one_line(error)})") from None
    return unpickled


class _ArrayUnpickler(pickle.Unpickler):
    """Makes arrays and plain values, and looks up nothing else that a pickle names."""

    KNOWN: ClassVar[dict[str, Any]] = {
        "numpy.ndarray": np.ndarray,
        "numpy.dtype": np.dtype,
        **dict.fromkeys(
            ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"), np.empty(0).__reduce__()[0]
        ),
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.KNOWN[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of an array") from None


def download_cifar(dataset: str, root: Path) -> None:
    """Let torchvision download and check the files, then move them to `root` at once: others may be doing the same."""
    cls: Any = _torchvision_cifar(dataset, "all")
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as unfinished, redirect_stdout(sys.stderr):
        cls(unfinished, train=True, download=True)
        try:
            os.rename(Path(unfinished) / cls.base_folder, root / cls.base_folder)
        except OSError:
            if not cifar_files(dataset, "train", root):  # else another process was faster
                raise


def read_tinyimagenet(part: str, files: Sequence[Path]) -> Decoded:
    """The unpacked archive: train/<wnid>/images/*.JPEG, or val/val_annotations.txt followed by val/images/*.JPEG."""
    if part == "train":
        wnids = [file.parents[1].name for file in files]
        images = list(files)
    else:
        rows = [line.split("\t") for line in files[0].read_text(encoding="utf-8").splitlines() if line.strip()]
        by_name = {row[0]: row[1] for row in rows if len(row) > 1}
        images = list(files[1:])
        unlisted = [file for file in images if file.name not in by_name]
        if unlisted or len(by_name) != len(images):
            missing = unlisted[0].name if unlisted else f"{len(by_name)} images, {len(images)} are there"
            raise UserError(f"{files[0]}: does not fit the images beside it ({missing})")
        wnids = [by_name[file.name] for file in images]
    height, width, _ = _known_shape("tinyimagenet")
    class_names = tuple(sorted(set(wnids)))
    decoded = np.empty((len(images), height, width, 3), np.uint8)
    for row, file in enumerate(images):
        image_HWC = _decode(file, str(file))
        if image_HWC.shape != decoded.shape[1:]:
            raise UserError(f"{file}: image of {image_HWC.shape[:2]} pixels, not {height}x{width}")
        decoded[row] = image_HWC
    return Decoded(decoded, _as_labels(wnids, class_names), class_names)


def list_images(root: Path) -> tuple[Path, ...]:
    """Image files of an ImageFolder tree `root/<class>/…`, sorted; a tree or class without images is an error."""
    classes = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not classes:
        raise UserError(f"{root}: no class folders; expected {root.name}/<class>/*.png")
    files: list[Path] = []
    for class_dir in classes:
        found = sorted(
            Path(parent) / name
            for parent, names in _folders(class_dir)
            for name in names
            if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        )
        if not found:
            raise UserError(f"{class_dir}: no image files ({', '.join(IMAGE_SUFFIXES)})")
        files += found
    return tuple(files)


def _folders(top: Path) -> Iterator[tuple[str, list[str]]]:
    """A folder and those below it, links to folders followed, with the names of their files."""
    for folder, _, names in os.walk(top, followlinks=True):
        if Path(os.path.realpath(os.path.dirname(folder))).is_relative_to(os.path.realpath(folder)):
            raise UserError(f"{folder}: is a link to a folder that holds it")  # the way down would never end
        yield folder, names


def read_folder(root: Path, files: Sequence[Path], image_size: int) -> Decoded:
    """An ImageFolder tree; each image is resized to a square (bilinear, antialiased), without keeping its aspect."""
    names = [file.relative_to(root).parts[0] for file in files]
    class_names = tuple(sorted(set(names)))
    images_NHWC = np.empty((len(files), image_size, image_size, 3), np.uint8)
    for row, file in enumerate(files):
        images_NHWC[row] = _decode(file, str(file), image_size)
    return Decoded(images_NHWC, _as_labels(names, class_names), class_names)


def _decode(source: Any, where: str, image_size: int | None = None) -> np.ndarray:
    """image_HWC uint8 RGB; whatever Pillow raises on a broken file becomes one line that names it."""
    from PIL import Image

    try:
        with Image.open(source) as image:
            pixels = image.convert("RGB")
        if image_size is not None:
            pixels = pixels.resize((image_size, image_size), Image.Resampling.BILINEAR)
        return np.asarray(pixels)
    except Exception as error:  # broken files raise OSError, SyntaxError, struct.error, IndexError and more
        raise UserError(f"{where}: unreadable image ({one_line(error) or type(error).__name__})") from None


def _torchvision_cifar(dataset: str, part: str) -> type:
    """torchvision's class, restricted to one part, so that the other part's files needn't be there."""
    from torchvision.datasets import CIFAR10, CIFAR100

    cls = {"cifar10": CIFAR10, "cifar100": CIFAR100}[dataset]
    if part == "all":
        return cls
    return type(cls.__name__, (cls,), {"test_list" if part == "train" else "train_list": []})


def _known_shape(dataset: str) -> tuple[int, int, tuple[str, ...]]:
    """Height, width and, in case the files don't name the classes, their numbers."""
    known = DATASETS[dataset]
    assert known.image_shape is not None
    assert known.num_classes is not None
    return known.image_shape[1], known.image_shape[2], tuple(str(label) for label in range(known.num_classes))


def _as_labels(names: Sequence[str], class_names: Sequence[str]) -> np.ndarray:
    class_of = {name: label for label, name in enumerate(class_names)}
    return np.asarray([class_of[name] for name in names], dtype=np.int64)


def _checked(images_NHWC: np.ndarray, labels_N: np.ndarray, class_names: tuple[str, ...], where: Path) -> Decoded:
    if len(labels_N) == 0:
        raise UserError(f"{where}: holds no images")
    if labels_N.min() < 0 or labels_N.max() >= len(class_names):
        raise UserError(f"{where}: labels {labels_N.min()} to {labels_N.max()}, allowed 0 to {len(class_names) - 1}")
    return Decoded(np.ascontiguousarray(images_NHWC), labels_N, class_names)


def _column(shard: Path, names: Sequence[str], allowed: Sequence[str]) -> str:
    for name in allowed:
        if name in names:
            return name
    raise UserError(f"{shard}: no column {' or '.join(allowed)} (it has {', '.join(names)})")


def _hub_names(metadata: dict[bytes, bytes] | None, label_column: str) -> tuple[str, ...]:
    """Class names from the hub's schema metadata, or none."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        return tuple(str(name) for name in features[label_column]["names"])
    except (KeyError, TypeError, ValueError):
        return ()
