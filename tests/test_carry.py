"""Studies taken to a machine without a network and back: here that is an empty folder which sees nothing of this one."""

import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from data_files import random_images, write_parquet
from simulated_study import done_row, simulate, small_study

from benchmark.carry import OF_A_RUN, take_in
from benchmark.config import expand
from benchmark.errors import UserError
from benchmark.rows import file_checksum
from benchmark.run import resolved_study
from benchmark.store import Results

ROOT = Path(__file__).parents[1]
Study = Callable[..., Path]


def command(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def train(there: Path, minutes: int, *options: object) -> subprocess.CompletedProcess[str]:
    """What `out` packed is trained by its own script, with this Python and without this checkout."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "BENCHMARK_DATA")}
    return subprocess.run(
        ["sh", there / "train.sh", str(minutes), *map(str, options)],
        env=kept | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def unpack(archives: Path, to: Path) -> None:
    for path in archives.glob("*.tar"):
        with tarfile.open(path) as archive:
            archive.extractall(to, filter="data")


def archived(folder: Path) -> dict[str, int]:
    """Names in the archives of a folder, and the archive of each."""
    names = {}
    for path in folder.glob("*.tar"):
        with tarfile.open(path) as archive:
            names |= {name: int(path.stem) for name in archive.getnames()}
    return names


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for seed, dataset in enumerate(("cifar10", "cifar100")):
        images_NHWC, labels_N = random_images(400, num_classes=10 ** (1 + seed), seed=seed)
        names = tuple(f"class{label}" for label in range(10 ** (1 + seed)))
        columns = ("img", "label") if dataset == "cifar10" else ("img", "fine_label")
        for part, shards in (("train", 2), ("test", 1)):
            write_parquet(
                tmp_path / "data" / dataset, part, images_NHWC, labels_N, shards=shards, columns=columns, names=names
            )
    return tmp_path / "data"


@pytest.fixture
def study(tiny_study: Study) -> Path:
    task = {"dataset": "cifar100", "train_images": 100, "validation_images": 20, "test_images": 50}
    return tiny_study(task=task | {"out_of_distribution": ["cifar10"]}, seeds=[0, 1], recipe={"epochs": 1})


def test_a_study_is_taken_out_trained_there_and_brought_back(study: Path, data: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "something-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("something.py", "")
        wheel.writestr("something-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: something\nVersion: 1.0\n")
        wheel.writestr(
            "something-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("something-1.0.dist-info/RECORD", "")
    first = tmp_path / "first" / study.name
    first.parent.mkdir()
    first.write_text(study.read_text().replace("- 1\n", ""))  # one seed is done here
    assert command("benchmark.sweep", first, "--results", here, "--data-dir", data, "--threads", 1).returncode == 0

    out = (
        "out",
        study,
        "--results",
        here,
        "--data-dir",
        data,
        "--wheels",
        wheels,
        "--to",
        tmp_path / "out",
        "--mib",
        2,
    )
    packed = command("benchmark.carry", *out)
    assert packed.returncode == 0, packed.stderr
    names = archived(tmp_path / "out")
    assert {name for name in names if name.startswith("data/")} == {
        *(f"data/cifar100/train-0000{i}-of-00002.parquet" for i in (0, 1)),
        *(f"data/{dataset}/test-00000-of-00001.parquet" for dataset in ("cifar100", "cifar10")),
    }
    assert max(names.values()) > 1
    assert all(path.stat().st_size <= 2 * 2**20 for path in (tmp_path / "out").iterdir())

    unpack(tmp_path / "out", there)
    swept = train(there, 3, "--threads", 1)
    assert swept.returncode == 0, swept.stderr
    assert "2 runs, 1 there already, 1 to do" in swept.stderr
    assert (there / "site/something.py").is_file()
    assert {Path(name).name for name in archived(there / "back")} == {*OF_A_RUN, "study.yaml"}

    taken = command("benchmark.carry", "in", there / "back/1.tar", "--results", here)
    assert taken.stdout.startswith("1 runs brought in, 0 left out"), taken.stderr
    known, new = (run.key for run in expand(resolved_study(str(study))))
    assert Results(here).rows(Results(here).read_study(study.stem)).keys() == {known, new}
    assert Results(here).examples(study.stem, new) is not None
    assert Results(here).history(study.stem, new) is not None
    row = Results(here).row(new)
    assert row is not None
    assert row["environment"]["commit"] != "unknown"
    ended = command("benchmark.sweep", study, "--results", here, "--data-dir", data)
    assert (ended.returncode, "2 there already, 0 to do" in ended.stderr) == (0, True), ended.stderr


def test_a_run_that_ended_here_too_stays_as_it_is(tmp_path: Path) -> None:
    study = small_study(["single"], seeds=2)
    there, here = simulate(tmp_path / "there", study), simulate(tmp_path / "here", small_study(["single"], seeds=1))
    pack(there, tmp_path / "back.tar", [run.key for run in expand(study)])
    known, new = (run.key for run in expand(study))
    before = (here.run_dir(known) / "row.json").stat().st_mtime_ns
    take_in([tmp_path / "back.tar"], here)
    assert (here.run_dir(known) / "row.json").stat().st_mtime_ns == before
    assert here.row(new) == there.row(new)


@pytest.mark.parametrize(("here", "there", "kept"), [("failed", "done", "done"), ("done", "failed", "done")])
def test_a_finished_run_comes_before_a_failed_one(here: str, there: str, kept: str, tmp_path: Path) -> None:
    study = small_study(["single"], seeds=1)
    [run] = expand(study)
    folders = {}
    for name, status in (("here", here), ("there", there)):
        folders[name] = simulate(tmp_path / name, study)
        if status == "failed":
            failed = {"status": "failed", "reason": "out of memory", "metrics": {}, "costs": {}, "measured": {}}
            folders[name].write_row(done_row(run, {}) | failed)
    pack(folders["there"], tmp_path / "back.tar", [run.key])
    take_in([tmp_path / "back.tar"], folders["here"])
    row = folders["here"].row(run.key)
    assert row is not None
    assert row["status"] == kept


def pack(results: Results, path: Path, keys: list[str]) -> None:
    with tarfile.open(path, "w") as archive:
        for key in keys:
            for part in ("examples.parquet", "row.json"):
                archive.add(results.run_dir(key) / part, f"runs/{key}/{part}")


def test_a_damaged_row_is_left_out(tmp_path: Path) -> None:
    study = small_study(["single"], seeds=1)
    there, here = simulate(tmp_path / "there", study), Results(tmp_path / "here")
    [run] = expand(study)
    row = there.run_dir(run.key) / "row.json"
    row.write_bytes(row.read_bytes()[:100])
    pack(there, tmp_path / "back.tar", [run.key])
    take_in([tmp_path / "back.tar"], here)
    assert not here.run_dir(run.key).exists()


def test_a_file_that_is_not_as_its_row_says_leaves_the_run_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = small_study(["single"], seeds=2)
    there, here = simulate(tmp_path / "there", study), Results(tmp_path / "here")
    damaged, whole = (run.key for run in expand(study))
    for key in (damaged, whole):
        row = there.row(key)
        assert row is not None
        content = (there.run_dir(key) / "examples.parquet").read_bytes()
        there.write_row(row | {"files": {"examples.parquet": file_checksum(content)}})
    flip(there.run_dir(damaged) / "examples.parquet", 200)
    pack(there, tmp_path / "back.tar", [damaged, whole])
    take_in([tmp_path / "back.tar"], here)
    assert (here.row(damaged), here.row(whole)) == (None, there.row(whole))
    out, err = capsys.readouterr()
    assert out == "1 runs brought in, 1 left out: they are here already or damaged\n"
    assert err == f"warning: {damaged}: its row is missing, or a file of it is damaged; left out\n"


def test_a_row_changed_on_the_way_is_left_out(tmp_path: Path) -> None:
    study = small_study(["single"], seeds=1)
    there, here = simulate(tmp_path / "there", study), Results(tmp_path / "here")
    [run] = expand(study)
    path = there.run_dir(run.key) / "row.json"
    path.write_bytes(path.read_bytes().replace(b'"test/prob_mean/accuracy":0.', b'"test/prob_mean/accuracy":1.'))
    pack(there, tmp_path / "back.tar", [run.key])
    take_in([tmp_path / "back.tar"], here)
    assert not here.run_dir(run.key).exists()


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["cut between files", "cut within a file", "header", "folder"])
def test_a_damaged_archive_is_refused_whole(damage: str, tmp_path: Path) -> None:
    """tarfile takes what it can't read as a header for the end, and says nothing."""
    study = small_study(["single"], seeds=2)
    there, here = simulate(tmp_path / "there", study), Results(tmp_path / "here")
    path = tmp_path / "back.tar"
    pack(there, path, [run.key for run in expand(study)])
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    if damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "header":
        flip(path, last.offset + 3)
    else:
        path.write_bytes(path.read_bytes()[: last.offset if "between" in damage else last.offset_data + 10])
    with pytest.raises(UserError, match=r"back\.tar: can't be read as an archive \("):
        take_in([path], here)
    assert not here.root.exists()


@pytest.mark.parametrize("name", ["../row.json", "/tmp/row.json", "runs/../row.json", "runs/key/weights", "study.yaml"])
def test_an_archive_of_anything_else_is_refused_whole(name: str, tmp_path: Path) -> None:
    study = small_study(["single"], seeds=1)
    there, here = simulate(tmp_path / "there", study), Results(tmp_path / "here")
    [run] = expand(study)
    pack(there, tmp_path / "back.tar", [run.key])
    with tarfile.open(tmp_path / "back.tar", "a") as archive:
        member = tarfile.TarInfo(name)
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(UserError, match=r"is nothing that `carry back` packs"):
        take_in([tmp_path / "back.tar"], here)
    assert not here.root.exists()


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "back.tar", "w") as archive:
        member = tarfile.TarInfo("runs/key/log")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(member)
    with pytest.raises(UserError, match="is nothing that"):
        take_in([tmp_path / "back.tar"], Results(tmp_path / "here"))


def test_wrong_input_gets_one_line(study: Path, data: Path, tmp_path: Path) -> None:
    out = ("out", study, "--data-dir", data, "--results", tmp_path / "here")
    (tmp_path / "no.tar").write_bytes(b"no archive")
    for arguments, said in (
        ((*out, "--to", data), "the folder is not empty"),
        ((*out, "--to", tmp_path / "out", "--mib", 1, "--wheels", tmp_path / "none"), "no such folder"),
        (("in", tmp_path / "no.tar", "--results", tmp_path / "here"), "can't be read as an archive"),
        (("back", study, "--to", tmp_path / "back", "--results", tmp_path / "here"), "nothing to bring back"),
    ):
        done = command("benchmark.carry", *arguments)
        assert done.returncode == 2, arguments
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_file_larger_than_an_archive_is_named(study: Path, data: Path, tmp_path: Path) -> None:
    (data / "cifar10" / "test-00000-of-00001.parquet").write_bytes(bytes(3 * 2**20))
    out = ("out", study, "--data-dir", data, "--results", tmp_path / "here", "--to", tmp_path / "out", "--mib", 2)
    done = command("benchmark.carry", *out)
    assert done.returncode == 2
    assert "test-00000-of-00001.parquet takes 3.0 MiB, more than an archive may (--mib 2)" in done.stderr
    assert not (tmp_path / "out").exists()
