"""Nothing that is read can run code, and no name or link leads out of a folder: tried with files that do their worst."""

import ast
import hashlib
import io
import os
import pickle
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from data_files import random_images, write_folder, write_torchvision
from simulated_study import simulate, small_study
from test_imports import MODULES, ROOT, imported, module_name
from torchvision.datasets import CIFAR10

from benchmark import checkpoint
from benchmark.carry import bring_back, take_in
from benchmark.compiling import keep_compiled_code_private
from benchmark.config import expand
from benchmark.data import shifted
from benchmark.data.sources import Location, find
from benchmark.errors import UserError
from benchmark.files import open_log, write_atomically
from benchmark.report.write import report_files
from benchmark.store import Results
from benchmark.strict import read_yaml

PICKLING = {
    "benchmark.checkpoint": "names the error of torch's reader of tensors",
    "benchmark.data.readers": "CIFAR's own files, by a reader that looks nothing up but arrays",
}


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """What exists once code of a file has run."""
    return tmp_path / "ran"


@pytest.fixture
def bomb(ran: Path) -> Any:
    """Whoever unpickles it runs code; here that makes a folder."""

    class Bomb:
        def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
            return os.mkdir, (str(ran),)

    bomb = Bomb()
    pickle.loads(pickle.dumps(bomb))
    assert ran.is_dir()
    ran.rmdir()
    return bomb


def test_a_checkpoint_runs_no_code(bomb: Any, ran: Path, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.state"
    checkpoint.save(path, {"key": "run", "network": bomb})
    assert checkpoint.load(path, key="run", device=torch.device("cpu")) is None
    assert not ran.exists()
    assert path.with_name("checkpoint.state.damaged").is_file()


def test_arrays_of_corrupted_images_run_no_code(bomb: Any, ran: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "fog.npy", np.array([bomb], dtype=object), allow_pickle=True)
    assert shifted._open(tmp_path / "fog.npy", (1,)) is None
    assert not ran.exists()


def test_cifars_pickles_run_no_code_even_with_the_known_md5(
    bomb: Any, ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_torchvision(tmp_path, {"test": random_images(10)}, monkeypatch)
    content = pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [0], "more": bomb})
    (folder / "test_batch").write_bytes(content)
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", hashlib.md5(content).hexdigest()]])
    with pytest.raises(UserError, match=r"test_batch: holds more than images \(posix.mkdir is no part of an array\)"):
        find("cifar10", "test", Location(tmp_path, offline=True)).read()
    assert not ran.exists()


def test_a_download_that_is_not_the_known_one_is_not_kept(
    bomb: Any, ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    with tarfile.open(tmp_path / CIFAR10.filename, "w:gz") as archive:
        member = tarfile.TarInfo(f"{CIFAR10.base_folder}/data_batch_1")
        content = pickle.dumps(bomb)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(CIFAR10, "url", (tmp_path / CIFAR10.filename).as_uri())
    cache = tmp_path / "cache"
    with pytest.raises(UserError, match="the download failed"):
        find("cifar10", "train", Location(cache_dir=cache))
    assert not list((cache / "cifar10").iterdir())
    assert not ran.exists()


@pytest.mark.filterwarnings("ignore:pickle-based deserialization:RuntimeWarning")
@pytest.mark.parametrize("of_a_run", [True, False])
def test_parquet_runs_no_code(bomb: Any, ran: Path, tmp_path: Path, of_a_run: bool) -> None:
    """Arrow once unpickled what a column's metadata hold."""
    extension = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(bomb)}
    labels_N = np.array([3, 5])
    label = pyarrow.field("label", pyarrow.int64(), metadata=extension)
    table = pyarrow.table([labels_N], schema=pyarrow.schema([label]))
    if of_a_run:
        results = Results(tmp_path)
        path = results.examples_path("study", "key")
        path.parent.mkdir(parents=True)
        pyarrow.parquet.write_table(table, path)
        examples = results.examples("study", "key")
        assert examples is not None
        assert examples["label"].tolist() == labels_N.tolist()
    else:
        path = tmp_path / "cifar10" / "test-00000-of-00001.parquet"
        path.parent.mkdir()
        pyarrow.parquet.write_table(table.append_column("img", [[{"bytes": b""}, {"bytes": b""}]]), path)
        with pytest.raises(UserError, match="unreadable image"):
            find("cifar10", "test", Location(tmp_path, offline=True)).read()
    assert not ran.exists()


@pytest.mark.parametrize("tag", ["object/apply:os.mkdir", "object/new:os.mkdir", "name:os.mkdir", "module:os"])
def test_yaml_runs_no_code(tag: str, ran: Path, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"name: !!python/{tag} ['{ran}']\n")
    with pytest.raises(UserError, match="not valid YAML"):
        read_yaml(tmp_path / "x.yaml", "a mapping")
    assert not ran.exists()


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_no_module_reads_what_can_run_code(path: Path) -> None:
    name, tree = module_name(path), ast.parse(path.read_text())
    assert not {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"} & imported(path) or name in PICKLING
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        called, given = ast.unparse(call.func), {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert called not in (
            "eval",
            "exec",
            "os.system",
            "pickle.load",
            "pickle.loads",
            "pd.read_pickle",
            "yaml.unsafe_load",
        )
        assert given.get("shell", "False") == "False"
        assert called != "torch.load" or given["weights_only"] == "True"
        assert called != "np.load" or given["allow_pickle"] == "False"
        assert called != "yaml.load" or given["Loader"] == "_Loader"


@pytest.mark.parametrize("place", ["method", "network", "members"])
def test_a_grid_found_in_the_results_leads_nowhere_else(place: str, tmp_path: Path) -> None:
    """A file of the results is read as it was resolved, so that its names were checked when it was written, not now."""
    task = {"dataset": "digits", "network": {"name": "../../x" if place == "network" else "resnet"}}
    entry = {"method": "/../x" if place == "method" else "nfe", "num_members": "/../x" if place == "members" else 2}
    study = small_study([entry], tasks=[small_study().tasks[0].model_validate(task)])
    with pytest.raises(UserError, match=r"a run can't be called .*\.\./x"):
        expand(study)


def test_a_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    folder = tmp_path / "shared"
    folder.mkdir()
    for name in ("row.json", f".row.json.{os.getpid()}.tmp", "log"):
        (folder / name).symlink_to(mine)
    write_atomically(folder / "row.json", lambda file: file.write(b"row"))
    with pytest.raises(OSError, match="symbolic link"):
        open_log(folder)
    assert mine.read_text() == "mine"
    assert (folder / "row.json").read_bytes() == b"row"
    assert not (folder / "row.json").is_symlink()


def test_what_a_link_leads_to_is_neither_collected_nor_carried(tmp_path: Path) -> None:
    study = small_study(["single"], seeds=2)
    results = simulate(tmp_path / "results", study, images=40)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    linked, other = expand(study)
    (results.run_dir(linked.key) / "examples.parquet").unlink()
    for name in ("examples.parquet", "history.jsonl", "log"):
        (results.run_dir(linked.key) / name).symlink_to(secret)
    results.collect(study)
    bring_back([str(write_named(tmp_path, study))], results, tmp_path / "back", 2**20)
    assert not results.examples_path(study.name, linked.key).exists()
    assert results.examples_path(study.name, other.key).is_file()
    assert b"secret" not in (tmp_path / "back" / "1.tar").read_bytes()


def write_named(folder: Path, study: Any) -> Path:
    """The study as a file that bears its name."""
    Results(folder / "named").write_study(study)
    return (folder / "named" / study.name / "study.yaml").rename(folder / f"{study.name}.yaml")


def test_a_report_removes_nothing_behind_a_link(tmp_path: Path) -> None:
    """What report_files names and a report does not write is removed."""
    for folder in ("mine", "report/plots"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "mine" / "thesis.tex").touch()
    (tmp_path / "report" / "tables").symlink_to(tmp_path / "mine")
    (tmp_path / "report" / "plots" / "old.pdf").touch()
    names = {path.name for path in report_files(tmp_path / "report")}
    assert names == {"report.html", "report.md", "old.pdf"}


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_links_in_a_circle_are_an_error(target: str, tmp_path: Path) -> None:
    """Two of them have more ways down than anyone could walk; a link to another folder is followed."""
    images = write_folder(tmp_path / "cats" / "train", *random_images(6, 2), ("a", "b"))
    (images / "a" / "linked").symlink_to(write_folder(tmp_path / "more", *random_images(2, 1), ("c",)))
    location = Location(tmp_path, offline=True)
    assert len(find("folder", "train", location, folder="cats", image_size=8).files) == 8
    for name in ("one", "two"):
        (images / "a" / name).symlink_to(target)
    with pytest.raises(UserError, match=r"(one|two): is a link to a folder that holds it"):
        find("folder", "train", location, folder="cats", image_size=8)


@pytest.mark.parametrize("kind", ["compressed", "sparse"])
def test_an_archive_is_no_larger_than_it_looks(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "back.tar"
    if kind == "compressed":
        with tarfile.open(path, "w:xz") as archive:
            member = tarfile.TarInfo("runs/key/log")
            member.size = 2**20
            archive.addfile(member, io.BytesIO(bytes(2**20)))
    else:
        with open(tmp_path / "log", "wb") as file:
            file.truncate(2**20)
        subprocess.run(
            ["tar", "--sparse", "--format=gnu", "--transform=s,^,runs/key/,", "-cf", path, "log"],
            cwd=tmp_path,
            check=True,
        )
    assert path.stat().st_size < 2**15
    with pytest.raises(UserError, match=r"can't be read as an archive|is nothing that"):
        take_in([path], Results(tmp_path / "results"))
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("made_before", ["by nobody", "open to all", "a link"])
def test_compiled_code_is_kept_where_others_cannot_write(
    made_before: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv(
        "TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "torchinductor_me")
    )  # as torch does, which was imported
    expected = tmp_path / f"tutti-compiled-{os.getuid()}"
    if made_before == "open to all":
        expected.mkdir()
        expected.chmod(0o777)
    elif made_before == "a link":
        expected.symlink_to(ROOT)
    keep_compiled_code_private.__wrapped__()
    kept = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert stat.S_IMODE(kept.lstat().st_mode) == 0o700
    assert (kept == expected) == (made_before == "by nobody")
    assert ("not this user's alone" in capsys.readouterr().err) == (made_before != "by nobody")
    keep_compiled_code_private.__wrapped__()
    assert Path(os.environ["TORCHINDUCTOR_CACHE_DIR"]) == kept, "a folder of its own is left as it is"


def test_text_of_files_does_not_steer_a_terminal(tmp_path: Path) -> None:
    """A row's reason, another process's log and a wrong name with escape sequences in them."""
    study = small_study(["single"], seeds=1)
    results = simulate(tmp_path, study)
    [run] = expand(study)
    row = results.row(run.key)
    assert row is not None
    steering = "\x1b]0;owned\x07\x1b[2J\r\nfinished"
    results.write_row(row | {"status": "failed", "reason": steering, "metrics": {}, "costs": {}, "measured": {}})
    (results.run_dir(run.key) / "log").write_text(f"Error: {steering}\n")
    command = [sys.executable, "-m", "benchmark.sweep", str(write_named(tmp_path, study)), "--results", str(tmp_path)]
    for option in (["--status"], ["--retry", steering]):
        done = subprocess.run([*command, *option], capture_output=True, cwd=ROOT, check=False)
        said = done.stdout + done.stderr
        assert b"owned" in said
        assert not {*said} & {0x1B, 0x07, 0x0D}
