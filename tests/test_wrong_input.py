"""Wrong input: one clear line, exit code 2 (1 where work failed), nothing lost or half-written."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from simulated_study import simulate

from benchmark import run, sweep
from benchmark.errors import exit_code
from benchmark.run import resolved_study

Study = Callable[..., Path]


def said(
    main: Callable[[], int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str]:
    """Exit code and what stood on standard error."""
    monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
    return exit_code(main), capsys.readouterr().err


STUDIES: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"recipee": {}}, "unknown key 'recipee', did you mean 'recipe'?"),
    "unknown recipe key": ({"recipe": {"epoch": 3}}, "recipe: unknown key 'epoch', did you mean 'epochs'?"),
    "unknown schedule": ({"recipe": {"schedule": {"name": "cosin"}}}, "unknown name 'cosin', did you mean 'cosine'?"),
    "unknown schedule key": ({"recipe": {"schedule": {"name": "cosine", "finall": 0.1}}}, "did you mean 'final'?"),
    "wrong type": ({"recipe": {"epochs": "ten"}}, "recipe.epochs: input should be a valid number, not 'ten'"),
    "number as text": (
        {"recipe": {"batch_size": "32"}},
        "recipe.batch_size: input should be a valid integer, not '32'",
    ),
    "truth for number": ({"recipe": {"batch_size": True}}, "recipe.batch_size"),
    "not finite": ({"recipe": {"learning_rate": float("nan")}}, "recipe.learning_rate"),
    "negative epochs": ({"recipe": {"epochs": -1}}, "recipe.epochs: input should be greater than 0, not -1"),
    "warm-up too long": ({"recipe": {"warmup_epochs": 2}}, "warmup_epochs (2) must be fewer than epochs (2)"),
    "unknown precision": ({"recipe": {"precision": "fp16"}}, "input should be 'fp32' or 'bf16', not 'fp16'"),
    "unknown budget": (
        {"recipe": {"budget": "flops"}},
        "recipe.budget: input should be 'epochs' or 'training_flops', not 'flops'",
    ),
    "budget below the scores": (
        {
            "methods": [{"method": "nfe", "sparsity": 0.5, "snip_images": 200}],
            "recipe": {"epochs": 0.5, "budget": "training_flops"},
        },
        "are spent before the first step",
    ),
    "unknown momentum": (
        {"task": {"network": {"name": "wide_resnet", "last_norm_momentum": 9.0}}},
        "last_norm_momentum: input should be less than or equal to 1, not 9.0",
    ),
    "unknown method": ({"methods": ["deep_ensembel"]}, "unknown method 'deep_ensembel', did you mean 'deep_ensemble'?"),
    "unknown data set": ({"task": {"dataset": "cifar11"}}, "unknown data set 'cifar11', did you mean 'cifar1"),
    "unknown network": ({"task": {"network": {"name": "wide_resnett"}}}, "did you mean 'wide_resnet'?"),
    "nameless network": ({"task": {"network": {"depth": 10}}}, "network.name: is missing"),
    "impossible depth": (
        {"task": {"network": {"name": "wide_resnet", "depth": 12}}},
        "depth must be 6n + 4 (10, 16, 22, 28, …), not 12",
    ),
    "unknown network option": (
        {"task": {"network": {"name": "wide_resnet", "widht": 2}}},
        "unknown option of wide_resnet 'widht', did you mean 'width'?",
    ),
    "option of another method": (
        {"methods": [{"method": "single", "sparsity": 0.5}]},
        "methods[0]: unknown option of single 'sparsity' (allowed: none)",
    ),
    "misspelt option": (
        {"methods": ["single", {"method": "nfe", "sparsiti": 0.5}]},
        "methods[1]: unknown option of nfe 'sparsiti', did you mean 'sparsity'?",
    ),
    "no members": (
        {"methods": [{"method": "deep_ensemble", "num_members": 0}]},
        "num_members: input should be greater than or equal to 1, not 0",
    ),
    "members as text": (
        {"methods": [{"method": "mimo", "num_members": "3"}]},
        "num_members: input should be a valid integer",
    ),
    "no exit": ({"methods": [{"method": "nfe", "num_members": 0}]}, "greater than or equal to 1, not 0"),
    "everything pruned": (
        {"methods": [{"method": "nfe", "sparsity": 1.0}]},
        "sparsity: input should be less than 1, not 1.0",
    ),
    "empty grid": ({"methods": [{"method": "nfe", "sparsity": []}]}, "methods[0].sparsity: a list of values to try"),
    "endless training": ({"recipe": {"epochs": 1e308}}, "recipe.epochs: input should be less than or equal to 1000000"),
    "crowd of members": (
        {"methods": [{"method": "deep_ensemble", "num_members": 10**9}]},
        "num_members: input should be less than or equal to 100, not 1000000000",
    ),
    "bad value in a grid": ({"methods": [{"method": "nfe", "sparsity": [0.5, 1.0]}]}, "should be less than 1, not 1.0"),
    "sparsity of a fixed mask": ({"methods": [{"method": "prune_and_tune", "sparsity": 0.3}]}, "fix their own"),
    "bad deviation": (
        {"methods": [{"method": "nfe", "recipe": {"epocs": 3}}]},
        "methods[0].recipe: unknown key 'epocs'",
    ),
    "nameless method": ({"methods": [{"num_members": 3}]}, "methods[0].method: is missing"),
    "endless grid": (
        {"methods": [{"method": "nfe", "sparsity": [i / 1001 for i in range(101)], "num_members": list(range(1, 11))}]},
        "methods[0]: its lists make a grid of 1,010, larger than 1,000",
    ),
    "no methods": ({"methods": []}, "methods: list should have at least 1 item"),
    "no seeds": ({"seeds": []}, "seeds: list should have at least 1 item"),
    "same seed twice": ({"seeds": [1, 1]}, "has a value twice"),
    "negative seed": ({"seeds": [-1]}, "seeds are 0 or more"),
    "missing recipe": ({"recipe": None}, "recipe"),
    "unknown corruption": ({"task": {"shifted": {"kinds": ["fogg"]}}}, "unknown corruption 'fogg'"),
    "bad severity": ({"task": {"shifted": {"severities": [6]}}}, "severities are 1 to 5"),
    "foreign to itself": ({"task": {"out_of_distribution": ["digits"]}}, "can't be out of distribution for itself"),
    "folder without name": ({"task": {"dataset": "folder"}}, "it needs both"),
    "size without folder": ({"task": {"image_size": 8}}, "go with dataset: folder"),
    "two networks": (
        {"task": {"network": {"name": ["wide_resnet", "resnet"]}}},
        "unknown network ['wide_resnet', 'resnet']",
    ),
    "taken name": ({"name": "runs"}, "results/runs is taken"),
    "folder elsewhere": ({"task": {"dataset": "folder", "folder": "../x", "image_size": 8}}, "not a path"),
    "full with validation": ({"task": {"train_on": "full"}}, "drop validation_images"),
    "batch too large": ({"recipe": {"batch_size": 201}}, "batch_size 201 is larger than the 200 training images"),
    "too many images": ({"task": {"train_images": 5000}}, "5000"),
    "name elsewhere": ({"name": "../up"}, "name"),
}


@pytest.mark.parametrize("case", STUDIES)
def test_wrong_study(
    case: str,
    tiny_study: Study,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes, message = STUDIES[case]
    changes = dict(changes)
    if changes.get("recipe", ...) is None:
        path = tiny_study()
        path.write_text(yaml.safe_dump({k: v for k, v in yaml.safe_load(path.read_text()).items() if k != "recipe"}))
    else:
        path = tiny_study(**changes)
    code, err = said(sweep.main, capsys, monkeypatch, path, "--results", tmp_path / "results")
    assert code == 2, err
    assert message in err
    assert err.startswith("error: tiny") or case in ("batch too large", "too many images", "budget below the scores")
    assert len(err.splitlines()) == 1
    assert not list((tmp_path / "results").glob("*/study.yaml"))


@pytest.mark.parametrize(("main", "options"), [(sweep.main, ["--dry-run"]), (run.main, ["--index", 0])])
@pytest.mark.parametrize("batch_size", [201, 10**30])
def test_a_batch_of_more_images_than_there_are(
    main: Callable[[], int],
    options: list[object],
    batch_size: int,
    tiny_study: Study,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = tiny_study(recipe={"batch_size": batch_size})
    code, err = said(main, capsys, monkeypatch, study, *options, "--results", tmp_path / "results")
    assert (code, err) == (
        2, f"error: single: batch_size {batch_size} is larger than the 200 training images of digits\n"
    )  # fmt: skip
    assert not list(tmp_path.rglob("row.json"))


TEXTS = {
    "no mapping": ("- single\n", "a study is a mapping"),
    "no YAML": ("tasks: [\n", "not valid YAML"),
    "key twice": ("seeds: [0]\nseeds: [1]\n", "key 'seeds' stands twice"),
    "code": ("tasks: !!python/object/apply:os.system ['touch hacked']\n", "not valid YAML"),
    "empty": ("", "a study is a mapping"),
    "binary": ("\x00\x01", "not valid YAML"),
    "a billion values": (
        "a0: &a0 [x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 10)}]\n" for i in range(9)),
        "holds more than 100,000 values",
    ),
    "of itself": ("tasks: &a [*a]\n", "holds more than 100,000 values"),
    "deep": ("tasks: " + "[" * 1000 + "]" * 1000, "not valid YAML"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_unreadable_study(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text, message = TEXTS[case]
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    monkeypatch.chdir(tmp_path)
    code, err = said(sweep.main, capsys, monkeypatch, path)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "hacked").exists()


COMMANDS: dict[str, tuple[list[str], str]] = {
    "misspelt study": (["quikstart"], "unknown study 'quikstart', did you mean 'quickstart'?"),
    "missing file": (["nowhere.yaml"], "nowhere.yaml: can't be read"),
    "study elsewhere": (["../studies/quickstart"], "unknown study"),
    "no workers": (["quickstart", "--workers", "0"], "must be a whole number above 0"),
    "unknown device": (["quickstart", "--device", "tpu"], "unknown device"),
    "no such GPU": (["quickstart", "--device", "cuda:9"], "torch finds"),
    "no such folder": (["quickstart", "--data-dir", "/nowhere"], "--data-dir /nowhere: no such folder"),
    "never a checkpoint": (["quickstart", "--checkpoint-seconds", "-1"], "must be a number of seconds"),
    "results in a file": (["quickstart", "--results", "taken"], "results folder taken: can't be written"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_wrong_command(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, message = COMMANDS[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    code, err = said(sweep.main, capsys, monkeypatch, *arguments)
    assert code == 2
    assert message in err.splitlines()[-1]
    assert (tmp_path / "taken").read_text() == "a file"


def test_missing_data_offline(
    tiny_study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BENCHMARK_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tiny_study(task={"dataset": "cifar10"})
    code, err = said(sweep.main, capsys, monkeypatch, path, "--offline", "--results", tmp_path / "results")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "cifar10" in err
    assert str(tmp_path / "cache") in err


def test_index_outside_the_grid(
    tiny_study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, err = said(run.main, capsys, monkeypatch, tiny_study(), "--index", 1, "--results", tmp_path / "results")
    assert code == 2
    assert "--index 1: tiny has runs 0 to 0" in err


@contextlib.contextmanager
def small_disk(path: Path, options: str) -> Iterator[Path]:
    """A file system of its own, where this user may mount one."""
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def test_full_results_folder(tiny_study: Study, tmp_path: Path) -> None:
    """Full from the start: said before anything is trained. Full on the way: exit 1, and the same sweep goes on."""
    study = tiny_study(methods=["single"])
    command = [sys.executable, "-m", "benchmark.sweep", str(study), "--threads", "1", "--results"]
    with small_disk(tmp_path / "disk", "size=1m") as disk:
        ballast = disk / "ballast"
        with contextlib.suppress(OSError):
            ballast.write_bytes(bytes(2 << 20))
        ended = subprocess.run([*command, disk], capture_output=True, text=True, check=False)
        assert ended.returncode == 2, ended.stderr
        assert (
            ended.stderr.splitlines()[-1] == f"error: results folder {disk}: can't be written (No space left on device)"
        )
        ballast.write_bytes(bytes(700 << 10))
        ended = subprocess.run([*command, disk], capture_output=True, text=True, check=False)
        assert ended.returncode == 1, ended.stderr
        assert "No space left on device" in ended.stderr.splitlines()[-1]
        assert "Traceback" not in ended.stderr
        assert not list(disk.glob("runs/*/row.json"))
        ballast.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
        ended = subprocess.run([*command, disk], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr


def test_read_only_results_folder(tiny_study: Study, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=1m,ro") as disk:
        command = [sys.executable, "-m", "benchmark.sweep", str(tiny_study()), "--results", str(disk)]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr == f"error: results folder {disk}: can't be written (Read-only file system)\n"


@pytest.mark.parametrize("damage", ["truncated", "not ours", "of another run"])
def test_damaged_row_is_set_aside_and_trained_again(
    damage: str, tiny_study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, results = tiny_study(recipe={"epochs": 1}), tmp_path / "results"
    arguments = (study, "--index", 0, "--results", results)
    assert said(run.main, capsys, monkeypatch, *arguments)[0] == 0
    [path] = results.glob("runs/*/row.json")
    row = path.read_text()
    path.write_text(
        {"truncated": row[: len(row) // 2], "not ours": "[]"}.get(damage, row.replace("single-s0", "single-s1"))
    )
    code, err = said(run.main, capsys, monkeypatch, *arguments)
    assert code == 0, err
    assert "set aside as row.json.damaged" in err
    again = json.loads(path.read_text())
    assert again["metrics"] == json.loads(row)["metrics"]
    assert path.with_name("row.json.damaged").exists()


def test_a_run_tells_no_number_of_a_row_that_was_changed(
    tiny_study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = simulate(tmp_path / "results", resolved_study(str(tiny_study())))
    [path] = results.root.glob("runs/*/row.json")
    arguments = (tiny_study(), "--index", 0, "--results", results.root)
    assert said(run.main, capsys, monkeypatch, *arguments) == (0, "")
    changed = path.read_bytes().replace(b'"test/prob_mean/accuracy":0.', b'"test/prob_mean/accuracy":1.')
    path.write_bytes(changed)
    code, err = said(run.main, capsys, monkeypatch, *arguments)
    assert code == 2
    assert err.startswith(f"error: {path}: the row of digits-wideresnet10x1-single-s0-")
    assert "is not as its run wrote it" in err
    assert path.read_bytes() == changed


def test_damaged_line_of_collected_rows_is_left_out(tiny_study: Study, tmp_path: Path, capsys: Any) -> None:
    from benchmark.store import Results

    study, results = resolved_study(str(tiny_study())), Results(tmp_path / "results")
    path = results.study_dir("tiny") / "rows.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text('{"key": "cut off\n')
    assert results.rows(study) == {}
    assert "1 damaged lines left out" in capsys.readouterr().err
    assert path.with_name("rows.jsonl.damaged").read_text() == '{"key": "cut off\n'


@pytest.mark.parametrize(
    "edit",
    [{"metrics": {}}, {"metrics": {"test/prob_mean/accuracy": "high"}}, {"costs": None}, {"key": 5}, {"status": "ok"}],
)
def test_row_edited_into_nonsense_is_no_row(edit: dict[str, Any]) -> None:
    from benchmark.store import parse_row

    parts: dict[str, Any] = {key: {} for key in ("options", "task", "recipe", "data", "environment")}
    numbers = {"metrics": {"a": 0.5}, "costs": {"parameters": 1}, "measured": {"train_seconds": 1.0}}
    row = {"key": "k", "method": "single", "status": "done"} | parts | numbers
    assert parse_row(json.dumps(row)) == row
    assert parse_row(json.dumps(row | edit)) is None


def test_closed_pipe_is_no_error(tiny_study: Study) -> None:
    command = f"{sys.executable} -u -m benchmark.sweep {tiny_study()} --dry-run | true"
    ended = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert ended.stderr == ""
