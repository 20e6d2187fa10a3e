"""Small synthetic data sets, written as the hub, torchvision and ImageFolder would."""

import hashlib
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

CIFAR_NAMES = tuple(f"class{label}" for label in range(10))


def random_images(count: int, num_classes: int = 10, size: int = 32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images that all differ, uint8 NHWC, with labels in which every class is about as frequent."""
    rng = np.random.default_rng(seed)
    images_NHWC = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return images_NHWC, rng.permutation(np.arange(count) % num_classes).astype(np.int64)


def encode(image_HWC: np.ndarray, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(image_HWC).save(content, kind)
    return content.getvalue()


def write_parquet(
    folder: Path,
    part: str,
    images_NHWC: np.ndarray,
    labels_N: np.ndarray,
    *,
    shards: int = 1,
    columns: tuple[str, str] = ("img", "label"),
    names: tuple[str, ...] | None = CIFAR_NAMES,
) -> list[Path]:
    """Shards as on the hub: `train-00000-of-00002.parquet`."""
    folder.mkdir(parents=True, exist_ok=True)
    features = {columns[1]: {"names": names, "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if names else None
    files = []
    for shard, rows in enumerate(np.array_split(np.arange(len(labels_N)), shards)):
        encoded = [{"bytes": encode(images_NHWC[row]), "path": None} for row in rows]
        table = pyarrow.table({columns[0]: encoded, columns[1]: labels_N[rows]})
        file = folder / f"{part}-{shard:05d}-of-{shards:05d}.parquet"
        pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), file)
        files.append(file)
    return files


def write_torchvision(
    root: Path,
    parts: dict[str, tuple[np.ndarray, np.ndarray]],
    monkeypatch: pytest.MonkeyPatch,
    dataset: str = "cifar10",
    names: tuple[str, ...] = CIFAR_NAMES,
) -> Path:
    """torchvision's pickles; torchvision is told their md5, as it knows those of the real files."""
    cls = {"cifar10": CIFAR10, "cifar100": CIFAR100}[dataset]
    files = {"train": "data_batch_1", "test": "test_batch"} if cls is CIFAR10 else {"train": "train", "test": "test"}
    label_key, names_key = ("labels", "label_names") if cls is CIFAR10 else ("fine_labels", "fine_label_names")
    folder = root / cls.base_folder
    folder.mkdir(parents=True, exist_ok=True)

    def write(name: str, content: dict[str, Any]) -> str:
        (folder / name).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / name).read_bytes()).hexdigest()

    for part, file in files.items():
        md5 = "0" * 32
        if part in parts:
            images_NHWC, labels_N = parts[part]
            rows = images_NHWC.transpose(0, 3, 1, 2).reshape(len(labels_N), -1)
            md5 = write(file, {"data": rows, label_key: labels_N.tolist()})
        monkeypatch.setattr(cls, f"{part}_list", [[file, md5]])
    meta = "batches.meta" if cls is CIFAR10 else "meta"
    md5 = write(meta, {names_key: list(names)})
    monkeypatch.setattr(cls, "meta", {"filename": meta, "key": names_key, "md5": md5})
    return folder


def write_tinyimagenet(
    root: Path, part: str, images_NHWC: np.ndarray, labels_N: np.ndarray, names: tuple[str, ...]
) -> Path:
    """The unpacked archive. The files hold PNGs, whatever their name says, so that their pixels are known."""
    tree = root / "tiny-imagenet-200"
    folders = [
        tree / "train" / names[label] / "images" if part == "train" else tree / "val/images" for label in labels_N
    ]
    lines = []
    for row, (image_HWC, folder) in enumerate(zip(images_NHWC, folders, strict=True)):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{part}_{row}.JPEG").write_bytes(encode(image_HWC))
        lines.append(f"{part}_{row}.JPEG\t{names[labels_N[row]]}\t0\t0\t62\t62\n")
    if part != "train":
        (tree / "val/val_annotations.txt").write_text("".join(lines))
    return tree


def write_folder(root: Path, images_NHWC: np.ndarray, labels_N: np.ndarray, names: tuple[str, ...]) -> Path:
    """`root/<class>/<row>.png`"""
    for row, (image_HWC, label) in enumerate(zip(images_NHWC, labels_N, strict=True)):
        (root / names[label]).mkdir(parents=True, exist_ok=True)
        (root / names[label] / f"{row}.png").write_bytes(encode(image_HWC))
    return root
