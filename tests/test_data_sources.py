"""Where data sets are found and what their files decode to."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_files import (
    encode,
    random_images,
    write_folder,
    write_parquet,
    write_tinyimagenet,
    write_torchvision,
)
from torchvision.datasets import CIFAR10

from benchmark.data import embedded, readers
from benchmark.data.images import Split, fingerprint
from benchmark.data.readers import Decoded
from benchmark.data.sources import Location, find
from benchmark.data.splits import content_order
from benchmark.errors import UserError

WNIDS = ("n01", "n02", "n03")


@pytest.fixture
def location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    (tmp_path / "data").mkdir()
    return Location(tmp_path / "data", offline=True, cache_dir=tmp_path / "cache")


def assert_holds(decoded: Decoded, images_NHWC: np.ndarray, labels_N: np.ndarray) -> None:
    assert decoded.images_NHWC.dtype == np.uint8
    assert decoded.labels_N.dtype == np.int64
    np.testing.assert_array_equal(decoded.images_NHWC, images_NHWC)
    np.testing.assert_array_equal(decoded.labels_N, labels_N)


@pytest.mark.parametrize("columns", [("img", "label"), ("image", "label"), ("img", "fine_label")])
@pytest.mark.parametrize("subfolder", ["", "data"])
def test_parquet_shards_are_read_in_order(location: Location, columns: tuple[str, str], subfolder: str) -> None:
    images_NHWC, labels_N = random_images(23)
    assert location.data_dir
    write_parquet(location.data_dir / "cifar10" / subfolder, "train", images_NHWC, labels_N, shards=3, columns=columns)
    decoded = find("cifar10", "train", location).read()
    assert_holds(decoded, images_NHWC, labels_N)
    assert decoded.class_names[3] == "class3"


@pytest.mark.parametrize(("dataset", "num_classes"), [("cifar10", 10), ("cifar100", 100)])
@pytest.mark.parametrize("below", ["", "<dataset>"])
def test_torchvisions_files_equal_parquet(
    location: Location, monkeypatch: pytest.MonkeyPatch, dataset: str, num_classes: int, below: str
) -> None:
    names = tuple(f"c{label:02d}" for label in range(num_classes))
    parts = {"train": random_images(30, num_classes, seed=1), "test": random_images(20, num_classes, seed=2)}
    assert location.data_dir
    root = location.data_dir / below.replace("<dataset>", dataset)
    write_torchvision(root, parts, monkeypatch, dataset, names)
    for part, (images_NHWC, labels_N) in parts.items():
        decoded = find(dataset, part, location).read()  # type: ignore[arg-type]
        assert_holds(decoded, images_NHWC, labels_N)
        assert decoded.class_names == names


def test_each_part_is_found_without_the_other(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    images_NHWC, labels_N = random_images(10)
    assert location.data_dir
    write_torchvision(location.data_dir, {"test": (images_NHWC, labels_N)}, monkeypatch)
    assert_holds(find("cifar10", "test", location).read(), images_NHWC, labels_N)
    with pytest.raises(UserError, match="cifar10-train not found"):
        find("cifar10", "train", location)


def test_a_torchvision_file_that_fails_its_md5_is_not_unpickled(
    location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert location.data_dir
    folder = write_torchvision(location.data_dir, {"test": random_images(10)}, monkeypatch)
    with open(folder / "test_batch", "ab") as file:
        file.write(b"x")
    with pytest.raises(UserError, match=r"cifar-10-batches-py.*md5"):
        find("cifar10", "test", location).read()


def test_tinyimagenets_tree_equals_parquet(location: Location, tmp_path: Path) -> None:
    assert location.data_dir
    for part in ("train", "test"):
        images_NHWC, labels_N = random_images(12, 3, size=64, seed=len(part))
        write_tinyimagenet(location.data_dir, part, images_NHWC, labels_N, WNIDS)
        hub = tmp_path / "hub"
        shard_name = {"train": "train", "test": "valid"}[part]
        write_parquet(hub / "tinyimagenet", shard_name, images_NHWC, labels_N, names=WNIDS, columns=("image", "label"))
        from_tree = find("tinyimagenet", part, location).read()
        from_hub = find("tinyimagenet", part, Location(hub, cache_dir=tmp_path)).read()
        assert from_tree.class_names == from_hub.class_names == WNIDS
        first, second = (
            sorted((label, image.tobytes()) for label, image in zip(d.labels_N, d.images_NHWC, strict=True))
            for d in (from_tree, from_hub)
        )
        assert first == second


def test_greyscale_files_become_rgb(location: Location) -> None:
    images_NHWC, labels_N = random_images(3, 3, size=64)
    assert location.data_dir
    tree = write_tinyimagenet(location.data_dir, "test", images_NHWC, labels_N, WNIDS)
    grey_HW = images_NHWC[0, ..., 0]
    (tree / "val/images/test_0.JPEG").write_bytes(encode(grey_HW))
    decoded = find("tinyimagenet", "test", location).read()
    np.testing.assert_array_equal(decoded.images_NHWC[0], np.stack([grey_HW] * 3, axis=-1))


def test_data_dir_comes_before_the_environment_and_that_before_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [tmp_path / name for name in ("named", "environment", "cache")]
    for seed, place in enumerate(places):
        write_parquet(place / "cifar10", "test", *random_images(4, seed=seed))
    monkeypatch.setenv("BENCHMARK_DATA", str(places[1]))
    found = [
        find("cifar10", "test", Location(places[0], cache_dir=places[2])).origin,
        find("cifar10", "test", Location(cache_dir=places[2])).origin,
    ]
    monkeypatch.delenv("BENCHMARK_DATA")
    found.append(find("cifar10", "test", Location(cache_dir=places[2])).origin)
    assert found == [str(place / "cifar10") for place in places]


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Location().cache_dir == tmp_path / "tutti"


def test_a_misspelt_data_dir_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"missing is no folder"):
        find("cifar10", "test", Location(tmp_path / "missing", cache_dir=tmp_path))


@pytest.mark.parametrize("dataset", ["cifar10", "tinyimagenet"])
def test_not_found_says_where_it_looked_and_what_to_do(location: Location, dataset: str) -> None:
    with pytest.raises(UserError) as caught:
        find(dataset, "train", location)
    message = str(caught.value)
    assert "\n" not in message
    assert str(location.data_dir) in message
    assert str(location.cache_dir) in message
    assert "Parquet" in message
    assert ("offline" in message) == (dataset == "cifar10")
    assert (readers.TINY_IMAGENET_URL in message) == (dataset == "tinyimagenet")


def test_offline_downloads_nothing(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(readers, "download_cifar", lambda *_: calls.append(1))
    with pytest.raises(UserError, match="not found"):
        find("cifar10", "train", location)
    assert not calls
    with pytest.raises(UserError, match="not found"):
        find("cifar10", "train", Location(location.data_dir, cache_dir=location.cache_dir))
    assert calls == [1]


def test_a_failing_download_is_one_line(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(readers, "download_cifar", fail)
    with pytest.raises(UserError, match=r"no route to host.*Put the hub's Parquet shards"):
        find("cifar10", "train", Location(location.data_dir, cache_dir=location.cache_dir))


def test_two_downloads_into_one_cache_both_succeed(
    location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images_NHWC, labels_N = random_images(10)
    parts = {"train": (images_NHWC, labels_N), "test": (images_NHWC, labels_N)}
    monkeypatch.setattr(CIFAR10, "download", lambda self: write_torchvision(Path(self.root), parts, monkeypatch))
    online = Location(location.data_dir, cache_dir=location.cache_dir)
    assert_holds(find("cifar10", "train", online).read(), images_NHWC, labels_N)
    readers.download_cifar("cifar10", location.cache_dir / "cifar10")
    assert_holds(find("cifar10", "train", location).read(), images_NHWC, labels_N)
    assert [path.name for path in (location.cache_dir / "cifar10").iterdir()] == ["cifar-10-batches-py"]


def test_a_missing_shard_is_an_error(location: Location) -> None:
    assert location.data_dir
    files = write_parquet(location.data_dir / "cifar10", "train", *random_images(9), shards=3)
    files[1].unlink()
    with pytest.raises(UserError, match=r"holds 2 train shards, their names say 3"):
        find("cifar10", "train", location)


def test_broken_parquet_names_the_file(location: Location) -> None:
    assert location.data_dir
    (file,) = write_parquet(location.data_dir / "cifar10", "train", *random_images(9))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"train-00000-of-00001.parquet: can't be read"):
        find("cifar10", "train", location).read()


@pytest.mark.parametrize(
    ("columns", "labels", "message"),
    [
        (("picture", "label"), [0, 1], "no column img or image"),
        (("img", "label"), [0, 10], "labels 0 to 10, allowed 0 to 9"),
        (("img", "label"), [], "holds no images"),
    ],
)
def test_wrong_parquet_is_an_error(
    location: Location, columns: tuple[str, str], labels: list[int], message: str
) -> None:
    images_NHWC, _ = random_images(len(labels))
    assert location.data_dir
    folder = location.data_dir / "cifar10"
    write_parquet(folder, "test", images_NHWC, np.asarray(labels, dtype=np.int64), columns=columns)
    with pytest.raises(UserError, match=message):
        find("cifar10", "test", location).read()


def test_images_of_another_size_are_an_error(location: Location) -> None:
    assert location.data_dir
    write_parquet(location.data_dir / "cifar10", "test", *random_images(3, size=28))
    with pytest.raises(UserError, match=r"row 0: image of \(28, 28\) pixels, not 32x32"):
        find("cifar10", "test", location).read()


@pytest.mark.parametrize("part_name", ["test", "val", "valid"])
def test_an_image_folder_is_resized_and_sorted(location: Location, part_name: str) -> None:
    images_NHWC, labels_N = random_images(6, 2, size=24)
    images_NHWC[2] = 77
    assert location.data_dir
    write_folder(location.data_dir / "pets" / part_name, images_NHWC, labels_N, ("cat", "dog"))
    decoded = find("folder", "test", location, folder="pets", image_size=12).read()
    assert decoded.class_names == ("cat", "dog")
    assert decoded.images_NHWC.shape == (6, 12, 12, 3)
    assert decoded.labels_N.tolist() == sorted(labels_N.tolist())
    assert any((image == 77).all() for image in decoded.images_NHWC)


def test_an_unreadable_image_is_named(location: Location) -> None:
    assert location.data_dir
    root = write_folder(location.data_dir / "pets/train", *random_images(4, 2, size=16), ("cat", "dog"))
    broken = next(root.glob("dog/*.png"))
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(UserError, match=f"{broken.name}: unreadable image"):
        find("folder", "train", location, folder="pets", image_size=16).read()


def test_empty_trees_are_errors(location: Location) -> None:
    assert location.data_dir
    with pytest.raises(UserError, match=r"folder 'pets': no train images in"):
        find("folder", "train", location, folder="pets", image_size=8)
    (location.data_dir / "pets/train").mkdir(parents=True)
    with pytest.raises(UserError, match="no class folders"):
        find("folder", "train", location, folder="pets", image_size=8)
    (location.data_dir / "pets/train/cat").mkdir()
    (location.data_dir / "pets/train/cat/notes.txt").write_text("no image")
    with pytest.raises(UserError, match=r"cat: no image files"):
        find("folder", "train", location, folder="pets", image_size=8)


def test_digits_are_divided_into_1297_and_500() -> None:
    train, test = embedded.read_digits("train"), embedded.read_digits("test")
    assert train.images_NHWC.shape == (1297, 8, 8, 1)
    assert test.images_NHWC.shape == (500, 8, 8, 1)
    assert set(np.unique(test.images_NHWC)) == {round(value * 255 / 16) for value in range(17)}
    shares = np.bincount(test.labels_N) / np.bincount(np.concatenate([train.labels_N, test.labels_N]))
    np.testing.assert_allclose(shares, 500 / 1797, atol=0.006)
    rows = [image.tobytes() for image in np.concatenate([train.images_NHWC, test.images_NHWC])]
    assert len(set(rows)) == len(rows)  # all digits differ, so none is in both


def test_photos_are_500_patches_of_two_photographs() -> None:
    photos = embedded.read_photos("test")
    assert photos.images_NHWC.shape == (500, 32, 32, 3)
    assert photos.class_names == ("china", "flower")
    assert np.bincount(photos.labels_N).tolist() == [250, 250]
    np.testing.assert_array_equal(photos.images_NHWC, embedded.read_photos("test").images_NHWC)
    assert len(np.unique(photos.images_NHWC.reshape(500, -1), axis=0)) == 500
    assert len(embedded.read_photos("train").labels_N) == 0


def test_finding_data_imports_no_torch() -> None:
    code = (
        "import sys, benchmark.data.sources, benchmark.data.cache, benchmark.data.corruptions;"
        "print([name for name in ('torch', 'scipy', 'PIL', 'sklearn') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.skipif(
    not list((Path(os.environ.get("BENCHMARK_DATA", "missing")) / "cifar10").glob("test-*.parquet")),
    reason="$BENCHMARK_DATA holds no cifar10",
)
def test_the_real_cifar10_test_images_are_the_known_ones(tmp_path: Path) -> None:
    import torch

    decoded = find("cifar10", "test", Location(cache_dir=tmp_path)).read()
    assert decoded.class_names[0] == "airplane"
    assert np.bincount(decoded.labels_N).tolist() == [1000] * 10
    order_N = content_order(decoded.images_NHWC, decoded.labels_N)
    images_NHWC, labels_N = (torch.from_numpy(a[order_N]) for a in (decoded.images_NHWC, decoded.labels_N))
    assert fingerprint(Split(images_NHWC, labels_N))[:16] == "20e9b6d4c3fed6e5"
