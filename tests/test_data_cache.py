"""Decoded images on disk: checked when read, set aside when damaged, never fatal."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_files import random_images, write_parquet
from safetensors.numpy import save_file

from benchmark.data import cache, readers
from benchmark.data.sources import Location, Source, find


@pytest.fixture
def location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Location:
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    folder = tmp_path / "data/cifar10"
    for seed, part in enumerate(("train", "test")):
        write_parquet(folder, part, *random_images(40, seed=seed))
    return Location(tmp_path / "data", offline=True, cache_dir=tmp_path / "cache")


@pytest.fixture
def num_decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each time a source was really decoded."""
    decoded, read = [], readers.read_parquet

    def counted(dataset: str, shards: tuple[Path, ...]) -> readers.Decoded:
        decoded.append(dataset)
        return read(dataset, shards)

    monkeypatch.setattr(readers, "read_parquet", counted)
    return decoded


def assert_fetched(source: Source, location: Location, seed: int) -> None:
    images_NHWC, labels_N = random_images(40, seed=seed)
    decoded = cache.fetch(source, location)
    np.testing.assert_array_equal(decoded.images_NHWC, images_NHWC)
    np.testing.assert_array_equal(decoded.labels_N, labels_N)
    assert decoded.class_names == tuple(f"class{label}" for label in range(10))


def test_the_second_time_nothing_is_decoded(location: Location, num_decoded: list[str]) -> None:
    for _ in range(3):
        assert_fetched(find("cifar10", "train", location), location, seed=0)
    assert len(num_decoded) == 1


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip_a_pixel(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-50_000] ^= 1
    path.write_bytes(content)


def flip_a_label(path: Path) -> None:
    """Whichever tensor comes last in the file, this is another place in it than `flip_a_pixel`."""
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_version(path: Path) -> None:
    content = path.read_bytes().replace(b'"format":"1"', b'"format":"0"')
    assert content != path.read_bytes()
    path.write_bytes(content)


def other_class_names(path: Path) -> None:
    content = path.read_bytes().replace(b"class3", b"class8")
    assert content != path.read_bytes()
    path.write_bytes(content)


def foreign(path: Path) -> None:
    path.unlink()
    save_file({"images_NHWC": np.zeros((40, 32, 32, 3), np.uint8), "labels_N": np.zeros(40, np.int64)}, path)


def not_safetensors(path: Path) -> None:
    path.write_bytes(b"\x80\x04cos\nsystem\n" * 100)


def swap_with_test(path: Path) -> None:
    (other,) = path.parent.glob("cifar10-test-*.safetensors")
    shutil.copy(other, path)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_a_pixel,
        flip_a_label,
        empty,
        other_version,
        other_class_names,
        foreign,
        not_safetensors,
        swap_with_test,
    ],
)
def test_a_damaged_file_is_set_aside_and_rebuilt(
    location: Location, num_decoded: list[str], capsys: pytest.CaptureFixture[str], damage: object
) -> None:
    source = find("cifar10", "train", location)
    assert_fetched(source, location, seed=0)
    assert_fetched(find("cifar10", "test", location), location, seed=1)
    path = cache.cached_file(source, location)
    damage(path)  # type: ignore[operator]
    damaged = path.read_bytes()
    capsys.readouterr()
    assert_fetched(source, location, seed=0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "set aside" in lines[0]
    assert path.with_name(path.name + ".damaged").read_bytes() == damaged
    assert len(num_decoded) == 3
    assert_fetched(source, location, seed=0)
    assert len(num_decoded) == 3
    assert capsys.readouterr().err == ""


def test_a_changed_source_is_decoded_again(
    location: Location, num_decoded: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    source = find("cifar10", "train", location)
    assert_fetched(source, location, seed=0)
    write_parquet(source.files[0].parent, "train", *random_images(40, seed=7))
    assert_fetched(find("cifar10", "train", location), location, seed=7)
    os.utime(source.files[0], ns=(1, 1))
    assert_fetched(find("cifar10", "train", location), location, seed=7)
    assert len(num_decoded) == 3
    assert capsys.readouterr().err.count("has changed") == 2
    assert not list(location.cache_dir.glob("decoded/*.damaged"))


def test_the_same_set_in_two_places_is_cached_twice(location: Location, tmp_path: Path, num_decoded: list[str]) -> None:
    write_parquet(tmp_path / "elsewhere/cifar10", "train", *random_images(40, seed=9))
    elsewhere = Location(tmp_path / "elsewhere", offline=True, cache_dir=location.cache_dir)
    for _ in range(2):
        assert_fetched(find("cifar10", "train", location), location, seed=0)
        assert_fetched(find("cifar10", "train", elsewhere), elsewhere, seed=9)
    assert len(num_decoded) == 2


def test_a_cache_that_cannot_be_written_is_done_without(
    location: Location, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    nowhere = Location(location.data_dir, offline=True, cache_dir=tmp_path / "file/cache")
    assert_fetched(find("cifar10", "train", nowhere), nowhere, seed=0)
    assert capsys.readouterr().err.count("\n") == 1


def test_an_interrupted_write_leaves_nothing(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "fsync", full)
    assert_fetched(find("cifar10", "train", location), location, seed=0)
    assert list((location.cache_dir / "decoded").iterdir()) == []


def test_sets_that_come_with_a_library_are_not_cached(location: Location) -> None:
    assert len(cache.fetch(find("digits", "test", location), location).labels_N) == 500
    assert not location.cache_dir.exists()


def test_two_processes_build_the_cache_at_once(location: Location) -> None:
    code = (
        "import sys; from pathlib import Path; from benchmark.data import cache;"
        "from benchmark.data.sources import Location, find;"
        "where = Location(Path(sys.argv[1]), True, Path(sys.argv[2]));"
        "sys.stdin.readline();"
        "print(int(cache.fetch(find('cifar10', 'train', where), where).images_NHWC.sum()))"
    )
    command = [sys.executable, "-c", code, str(location.data_dir), str(location.cache_dir)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    results = [process.communicate() for process in processes]
    assert results == [(f"{random_images(40, seed=0)[0].sum()}\n", "")] * 2
    assert len(list((location.cache_dir / "decoded").iterdir())) == 1
