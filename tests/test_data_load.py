"""A task's splits: no leakage, the same everywhere, and what a row is told about them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from data_files import CIFAR_NAMES, random_images, write_folder, write_parquet, write_torchvision

from benchmark.config import Shift, TaskConfig
from benchmark.data.images import channel_statistics, fingerprint, fit
from benchmark.data.load import Split, TaskData, load
from benchmark.data.sources import Location
from benchmark.data.splits import stratified
from benchmark.errors import UserError

TRAIN = random_images(200, seed=0)
TEST = random_images(60, seed=1)


@pytest.fixture
def location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    write_parquet(tmp_path / "data/cifar10", "train", *TRAIN, shards=2)
    write_parquet(tmp_path / "data/cifar10", "test", *TEST)
    return Location(tmp_path / "data", offline=True, cache_dir=tmp_path / "cache")


def cifar10(location: Location, **settings: Any) -> TaskData:
    return load(TaskConfig(dataset="cifar10", network={"name": "resnet"}, **settings), location)


def rows(split: Split) -> list[bytes]:
    return [image_HWC.numpy().tobytes() for image_HWC in split.images_NHWC]


def counts(split: Split) -> list[int]:
    return torch.bincount(split.labels_N, minlength=10).tolist()


def test_each_training_image_is_trained_on_or_held_out(location: Location) -> None:
    data = cifar10(location)
    assert (len(data.train), len(data.validation), len(data.test)) == (180, 20, 60)
    assert sorted(rows(data.train) + rows(data.validation)) == sorted(image.tobytes() for image in TRAIN[0])
    assert sorted(rows(data.test)) == sorted(image.tobytes() for image in TEST[0])
    assert counts(data.validation) == [2] * 10
    assert counts(data.train) == [18] * 10


def test_images_keep_their_labels(location: Location) -> None:
    label_of = {image.tobytes(): label for image, label in zip(*TRAIN, strict=True)}
    data = cifar10(location, train_images=50, validation_images=30)
    for split in (data.train, data.validation):
        assert [label_of[row] for row in rows(split)] == split.labels_N.tolist()


def test_subsets_are_stratified_disjoint_and_nested(location: Location) -> None:
    small = cifar10(location, train_images=50, validation_images=30, test_images=20)
    large = cifar10(location, train_images=100, validation_images=30, test_images=40)
    assert counts(small.train) == [5] * 10
    assert counts(small.validation) == [3] * 10
    assert counts(small.test) == [2] * 10
    assert not set(rows(small.train)) & set(rows(small.validation))
    assert rows(small.validation) == rows(large.validation)
    assert set(rows(small.train)) < set(rows(large.train))
    assert set(rows(small.test)) < set(rows(large.test))


def test_validation_is_a_tenth_of_the_images_that_are_trained_on(location: Location) -> None:
    assert len(cifar10(location, train_images=100).validation) == 10
    assert len(cifar10(location, train_images=100).train) == 100


def test_train_on_full_holds_nothing_out(location: Location) -> None:
    data = cifar10(location, train_on="full")
    assert len(data.train) == 200
    assert data.validation.images_NHWC.shape == (0, 32, 32, 3)
    assert len(cifar10(location, train_on="full", train_images=70).train) == 70


def test_the_order_has_nothing_to_do_with_classes(location: Location) -> None:
    labels_N = cifar10(location).test.labels_N
    assert len(labels_N[:20].unique()) > 6


def test_neither_layout_nor_order_of_the_files_changes_the_split(
    location: Location, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shuffled = np.random.default_rng(5).permutation(200)
    parts = {"train": (TRAIN[0][shuffled], TRAIN[1][shuffled]), "test": TEST}
    write_torchvision(tmp_path / "other", parts, monkeypatch)
    other = Location(tmp_path / "other", offline=True, cache_dir=tmp_path / "cache")
    first, second = cifar10(location, train_images=90), cifar10(other, train_images=90)
    assert rows(first.train) == rows(second.train)
    assert rows(first.validation) == rows(second.validation)
    assert first.fingerprint == second.fingerprint
    assert first.class_names == second.class_names == CIFAR_NAMES


def test_the_fingerprint_sees_images_and_labels(location: Location, tmp_path: Path) -> None:
    known = {cifar10(location).fingerprint, cifar10(location, train_images=150).fingerprint}
    images_NHWC, labels_N = TEST[0].copy(), TEST[1].copy()
    images_NHWC[0, 0, 0, 0] ^= 1
    write_parquet(tmp_path / "data/cifar10", "test", images_NHWC, TEST[1])
    known.add(cifar10(location).fingerprint)
    labels_N[0] = (labels_N[0] + 1) % 10
    write_parquet(tmp_path / "data/cifar10", "test", TEST[0], labels_N)
    known.add(cifar10(location).fingerprint)
    assert len(known) == 4


def test_a_fingerprint_is_of_shape_pixels_and_labels() -> None:
    images_NHWC, labels_N = torch.zeros(4, 2, 2, 3, dtype=torch.uint8), torch.zeros(4, dtype=torch.int64)
    brighter_NHWC, other_N = images_NHWC.clone(), labels_N.clone()
    brighter_NHWC[3, 1, 1, 2], other_N[3] = 1, 1
    splits = [
        Split(images_NHWC, labels_N),
        Split(brighter_NHWC, labels_N),
        Split(images_NHWC, other_N),
        Split(images_NHWC.view(4, 4, 1, 3), labels_N),
    ]
    assert len({fingerprint(split) for split in splits}) == 4
    assert fingerprint(splits[0], splits[1]) != fingerprint(splits[1], splits[0])


def test_statistics_are_those_of_the_images_trained_on(location: Location) -> None:
    data = cifar10(location, train_images=50)
    values = data.train.images_NHWC.double() / 255
    np.testing.assert_allclose(data.mean_C, values.mean(dim=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(data.std_C, values.std(dim=(0, 1, 2), correction=0), rtol=1e-12)
    assert data.mean_C != cifar10(location).mean_C
    assert data.image_shape == (3, 32, 32)


def test_a_constant_channel_has_no_zero_std() -> None:
    mean_C, std_C = channel_statistics(torch.full((2, 4, 4, 1), 51, dtype=torch.uint8))
    assert mean_C == pytest.approx((0.2,))
    assert std_C[0] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_images": 191}, "train_images: 191 and 19 validation images are more than the 200"),
        ({"train_images": 100, "validation_images": 101}, "train_images: 100 and 101"),
        ({"validation_images": 200}, "validation_images: 200 leave none of the 200"),
        ({"test_images": 61}, "test_images: 61 are more than the 60"),
        ({"train_on": "full", "train_images": 201}, "train_images: 201"),
    ],
)
def test_more_images_than_there_are_name_the_field(location: Location, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cifar10(location, **settings)


def test_a_stratified_subset_has_each_class_in_its_share() -> None:
    labels_N = np.repeat([0, 1, 2], [50, 30, 21])
    for count in range(102):
        taken_K = np.bincount(labels_N[stratified(labels_N, count)], minlength=3)
        assert taken_K.sum() == count
        assert np.abs(taken_K - count * np.array([50, 30, 21]) / 101).max() < 1


def test_generated_shifts_are_recorded_as_such(location: Location) -> None:
    data = cifar10(location, test_images=20, shifted={"kinds": ["contrast", "gaussian_noise"], "severities": [1, 4]})
    assert list(data.shifted) == ["contrast/1", "contrast/4", "gaussian_noise/1", "gaussian_noise/4"]
    for split in data.shifted.values():
        assert split.images_NHWC.shape == data.test.images_NHWC.shape
        assert torch.equal(split.labels_N, data.test.labels_N)
        assert not torch.equal(split.images_NHWC, data.test.images_NHWC)
    assert torch.equal(data.shifted["contrast/1"].images_NHWC, data.shifted["contrast/1"].images_NHWC)
    with pytest.raises(KeyError):
        data.shifted["contrast/2"]
    record = data.record()["shifted"]
    assert record["source"] == {"contrast": "generated", "gaussian_noise": "generated"}
    assert record["reason"] == "CIFAR-10-C not found"


def write_cifar_c(root: Path, kind: str, labels_N: np.ndarray) -> np.ndarray:
    root.mkdir(parents=True, exist_ok=True)
    blocks = random_images(5 * len(labels_N), seed=3)[0]
    np.save(root / f"{kind}.npy", blocks)
    np.save(root / "labels.npy", np.tile(labels_N, 5).astype(np.uint8))
    return blocks


def test_published_files_are_used_for_the_same_test_images(location: Location, tmp_path: Path) -> None:
    blocks = write_cifar_c(tmp_path / "data/CIFAR-10-C", "contrast", TEST[1])
    data = cifar10(location, test_images=20, shifted={"kinds": ["contrast", "brightness"], "severities": [2, 5]})
    position = {image.tobytes(): row for row, image in enumerate(TEST[0])}
    for severity in (2, 5):
        split = data.shifted[f"contrast/{severity}"]
        expected = [blocks[(severity - 1) * 60 + position[row]].tobytes() for row in rows(data.test)]
        assert rows(split) == expected
        assert torch.equal(split.labels_N, data.test.labels_N)
    assert data.record()["shifted"]["source"] == {"contrast": "file", "brightness": "generated"}
    assert data.record()["shifted"]["reason"] == "no sound file for brightness"


def test_published_files_in_another_order_are_not_used(
    location: Location, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = write_cifar_c(tmp_path / "data/CIFAR-10-C", "contrast", np.roll(TEST[1], 1))
    data = cifar10(location, shifted={"kinds": ["contrast"], "severities": [5]})
    assert not set(rows(data.shifted["contrast/5"])) & {image.tobytes() for image in blocks}
    assert data.record()["shifted"]["source"] == {"contrast": "generated"}
    assert "labels.npy does not fit" in data.record()["shifted"]["reason"]
    assert capsys.readouterr().err.count("labels.npy does not fit") == 1


@pytest.mark.parametrize("damage", ["truncated", "shape", "pickle"])
def test_broken_published_files_are_not_used(location: Location, tmp_path: Path, damage: str) -> None:
    root = tmp_path / "data/CIFAR-10-C"
    write_cifar_c(root, "contrast", TEST[1])
    path = root / "contrast.npy"
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-5000])
    elif damage == "shape":
        np.save(path, np.load(path)[:-60])
    else:
        np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    data = cifar10(location, shifted={"kinds": ["contrast"], "severities": [1]})
    assert data.record()["shifted"]["source"] == {"contrast": "generated"}
    assert len(data.shifted["contrast/1"]) == 60


def test_out_of_distribution_sets_take_the_tasks_shape_and_need_no_training_files(
    location: Location, tmp_path: Path
) -> None:
    names = tuple(f"n{label:08d}" for label in range(200))
    images_NHWC, labels_N = random_images(80, 200, size=64)
    write_parquet(
        tmp_path / "data/tinyimagenet", "valid", images_NHWC, labels_N, columns=("image", "label"), names=names
    )
    data = cifar10(location, out_of_distribution=["tinyimagenet", "digits", "photos"])
    for split in data.out_of_distribution.values():
        assert split.images_NHWC.shape == (60, 32, 32, 3)
        assert split.images_NHWC.dtype == torch.uint8
        assert split.images_NHWC.is_contiguous()
        assert len(split) == 60
    digits_NHWC = data.out_of_distribution["digits"].images_NHWC
    assert torch.equal(digits_NHWC[..., 0], digits_NHWC[..., 2])


def test_colour_becomes_grey_for_a_grey_task(location: Location) -> None:
    task = TaskConfig(dataset="digits", network={"name": "resnet"}, out_of_distribution=["photos"], test_images=30)
    data = load(task, location)
    assert data.image_shape == (1, 8, 8)
    assert data.num_classes == 10
    assert data.out_of_distribution["photos"].images_NHWC.shape == (30, 8, 8, 1)


def test_fitting_equals_pillows_resize_and_grey() -> None:
    from PIL import Image

    images_NHWC, _ = random_images(4, size=64)
    smooth_NHWC = torch.from_numpy(images_NHWC // 2 + 60)
    resized_NHWC = fit(smooth_NHWC, (3, 32, 32))
    grey_NHWC = fit(smooth_NHWC, (1, 64, 64))
    for image, resized, grey in zip(smooth_NHWC.numpy(), resized_NHWC.numpy(), grey_NHWC.numpy(), strict=True):
        expected = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR))
        assert np.abs(resized.astype(int) - expected).max() <= 1
        assert np.abs(grey[..., 0].astype(int) - np.asarray(Image.fromarray(image).convert("L"))).max() <= 1


def test_a_folder_is_a_task(location: Location, tmp_path: Path) -> None:
    write_folder(tmp_path / "data/pets/train", *random_images(40, 2, size=20), ("cat", "dog"))
    write_folder(tmp_path / "data/pets/val", *random_images(10, 2, size=20, seed=4), ("cat", "dog"))
    task = TaskConfig(dataset="folder", folder="pets", image_size=10, network={"name": "resnet"})
    data = load(task, location)
    assert data.class_names == ("cat", "dog")
    assert data.image_shape == (3, 10, 10)
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 10)
    write_folder(tmp_path / "data/pets/val", *random_images(3, 1, size=20), ("bird",))
    with pytest.raises(UserError, match=r"pets: the classes of train and test differ \(bird\)"):
        load(task, location)


def test_wrong_tasks_are_one_line(location: Location, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="photos has no training images"):
        load(TaskConfig(dataset="photos", network={"name": "resnet"}), location)
    write_folder(tmp_path / "data/tiny/train", *random_images(40, 2, size=6), ("a", "b"))
    write_folder(tmp_path / "data/tiny/test", *random_images(40, 2, size=6), ("a", "b"))
    task = TaskConfig(dataset="folder", folder="tiny", image_size=6, network={"name": "resnet"}, shifted=Shift())
    with pytest.raises(UserError, match="images of 6 pixels can't be corrupted"):
        load(task, location)
    other = Location(tmp_path / "four", offline=True, cache_dir=tmp_path / "cache")
    for part in ("train", "test"):
        write_parquet(tmp_path / "four/cifar10", part, *random_images(20, 4), names=CIFAR_NAMES[:4])
    with pytest.raises(UserError, match="cifar10: found 4 classes, it has 10"):
        cifar10(other)


def test_the_record_is_json(location: Location) -> None:
    data = cifar10(location, shifted={"kinds": ["contrast"]}, out_of_distribution=["photos"])
    record = json.loads(json.dumps(data.record()))
    assert record["num_images"] == {"train": 180, "validation": 20, "test": 60}
    assert record["num_out_of_distribution"] == {"photos": 60}
    assert record["fingerprint"] == data.fingerprint
    assert record["mean"] == list(data.mean_C)
    assert record["split_seed"] == 0
    assert record["shifted"]["severities"] == [1, 2, 3, 4, 5]
    assert cifar10(location).record()["shifted"] is None
