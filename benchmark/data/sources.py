"""Where a data set lies: the search for its files. Nothing is decoded here, and torch is not imported.

Places, in this order: `data_dir`, $BENCHMARK_DATA, the user's cache folder. In each place a set may lie as Parquet
shards as on the Hugging Face hub (`<place>/cifar10/train-*.parquet`) or as its authors packed it
(`cifar-10-batches-py`, `cifar-100-python`, `tiny-imagenet-200`, in the place or in `<place>/<data set>`).
Each part (train, test) is looked for alone, so a set that is only scored needs no training files.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from benchmark.data import embedded, readers
from benchmark.data.readers import Decoded
from benchmark.errors import UserError, one_line

Part = Literal["train", "test"]

PART_NAMES: dict[Part, tuple[str, ...]] = {"train": ("train",), "test": ("test", "validation", "valid", "val")}
"""How a part may be called on disk. Tiny ImageNet's validation set is its test set: the real one has no labels."""

DOWNLOADS = ("cifar10", "cifar100")


def user_cache() -> Path:
    """$XDG_CACHE_HOME or ~/.cache, then tutti."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tutti"


@dataclass(frozen=True)
class Location:
    """Where data are looked for and kept. It changes no number, so it is no part of a run's key."""

    data_dir: Path | None = None
    offline: bool = False
    cache_dir: Path = field(default_factory=user_cache)

    def places(self) -> list[Path]:
        """Folders in the order in which they are searched."""
        if self.data_dir is not None and not Path(self.data_dir).is_dir():
            raise UserError(f"the data directory {self.data_dir} is no folder")
        named = (self.data_dir, os.environ.get("BENCHMARK_DATA"), self.cache_dir)
        places = [Path(place).expanduser().absolute() for place in named if place]
        return list(dict.fromkeys(places))


@dataclass(frozen=True)
class Source:
    """One part of a data set as it was found."""

    name: str
    """The data set and what else decides its pixels: `cifar10-train`, `folder-cats-32-test`."""
    origin: str
    """The folder, or what it was built from, for messages and records."""
    files: tuple[Path, ...]
    """Every file that is read; empty for sets that come with a library, which aren't cached."""
    read: Callable[[], Decoded]

    def fingerprint(self) -> str:
        """sha256 over names, sizes and modification times of the files, so a changed source is seen."""
        digest = hashlib.sha256(self.name.encode())
        for file in self.files:
            try:
                facts = file.stat()
            except FileNotFoundError:  # reading says what is missing
                digest.update(f"\n{file}\tmissing".encode())
            else:
                digest.update(f"\n{file}\t{facts.st_size}\t{facts.st_mtime_ns}".encode())
        return digest.hexdigest()


def find(
    dataset: str, part: Part, location: Location, *, folder: str | None = None, image_size: int | None = None
) -> Source:
    """One part of a data set, from the first place that holds it; else downloaded, where that is possible."""
    name = f"{dataset}-{part}"
    if dataset in embedded.READERS:
        return Source(name, "scikit-learn", (), partial(embedded.READERS[dataset], part))
    if dataset == "folder":
        assert folder is not None
        assert image_size is not None
        return _find_folder(part, location, folder, image_size)
    places = location.places()
    for place in places:
        try:
            source = _find_in(place, dataset, part)
        except OSError as error:
            raise UserError(f"{place} can't be searched for {name} ({one_line(error)})") from None
        if source is not None:
            return source
    if dataset in DOWNLOADS and not location.offline:
        try:
            readers.download_cifar(dataset, location.cache_dir / dataset)
        except Exception as error:  # whatever urllib, tarfile or the file system raise: it didn't work
            raise UserError(_not_found(name, places, f"the download failed ({one_line(error)})", dataset)) from None
        source = _find_in(location.cache_dir, dataset, part)
        if source is not None:
            return source
    reason = "no download while offline" if dataset in DOWNLOADS else "there is no automatic download"
    raise UserError(_not_found(name, places, reason, dataset))


def _find_in(place: Path, dataset: str, part: Part) -> Source | None:
    name = f"{dataset}-{part}"
    for shard_dir in (place / dataset, place / dataset / "data"):
        shards = _shards(shard_dir, part)
        if shards:
            return Source(name, str(shard_dir), shards, partial(readers.read_parquet, dataset, shards))
    for root in (place, place / dataset):
        files = _packed_files(root, dataset, part)
        if files:
            if dataset in DOWNLOADS:
                return Source(name, str(root), files, partial(readers.read_cifar, dataset, part, root))
            return Source(name, str(root), files, partial(readers.read_tinyimagenet, part, files))
    return None


def _shards(shard_dir: Path, part: Part) -> tuple[Path, ...]:
    """Parquet files of a part, `train-00000-of-00002.parquet` and so on; a missing shard is an error."""
    for part_name in PART_NAMES[part]:
        shards = tuple(sorted(shard_dir.glob(f"{part_name}-*.parquet")))
        if not shards:
            continue
        numbered = [shard.stem.rpartition("-of-") for shard in shards]
        expected = {int(number) for _, of, number in numbered if of and number.isdigit()}
        if expected and expected != {len(shards)}:
            wanted = " or ".join(str(number) for number in sorted(expected))
            raise UserError(f"{shard_dir} holds {len(shards)} {part_name} shards, their names say {wanted}")
        return shards
    return ()


def _packed_files(root: Path, dataset: str, part: Part) -> tuple[Path, ...]:
    """The files of a part as the data set's authors packed it; empty where they aren't in `root`."""
    if dataset in DOWNLOADS:
        return readers.cifar_files(dataset, part, root)
    tree = root / "tiny-imagenet-200"
    if part == "test":
        annotations = tree / "val" / "val_annotations.txt"
        images = sorted((tree / "val" / "images").glob("*.JPEG")) if annotations.is_file() else []
        return (annotations, *images) if images else ()
    return tuple(sorted((tree / "train").glob("*/images/*.JPEG")))


def _find_folder(part: Part, location: Location, folder: str, image_size: int) -> Source:
    places = location.places()
    for place in places:
        for part_name in PART_NAMES[part]:
            root = place / folder / part_name
            if root.is_dir():
                files = readers.list_images(root)
                name = f"folder-{folder}-{image_size}-{part}"
                return Source(name, str(root), files, partial(readers.read_folder, root, files, image_size))
    wanted = f"{folder}/{{{'|'.join(PART_NAMES[part])}}}/<class>/*.png"
    raise UserError(f"folder {folder!r}: no {part} images in {_listed(places)}; put them there as {wanted}")


def _not_found(name: str, places: list[Path], reason: str, dataset: str) -> str:
    packed = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python", "tinyimagenet": "tiny-imagenet-200"}
    return (
        f"{name} not found in {_listed(places)}; {reason}. "
        f"Put the hub's Parquet shards into {dataset}/ or the folder {packed[dataset]} into one of these"
        + (f" (from {readers.TINY_IMAGENET_URL})" if dataset == "tinyimagenet" else "")
    )


def _listed(places: list[Path]) -> str:
    return ", ".join(str(place) for place in places)
