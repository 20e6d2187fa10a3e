"""A run that is killed and started again equals one that was left alone, bit for bit on a CPU."""

import json
import multiprocessing
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from benchmark import checkpoint
from benchmark.config import Run, expand
from benchmark.data.sources import Location
from benchmark.machine import Machine
from benchmark.progress import Reporter
from benchmark.run import execute, resolved_study
from benchmark.store import Results

METHODS = {
    "single": {"method": "single"},
    "deep_ensemble": {"method": "deep_ensemble", "num_members": 2},
    "deep_ensemble_stacked": {"method": "deep_ensemble", "num_members": 2, "execution": "stacked"},
    "batch_ensemble": {"method": "batch_ensemble", "num_members": 2},
    "mimo": {"method": "mimo", "num_members": 2, "batch_repetitions": 2},
    "mixmo": {"method": "mixmo", "batch_repetitions": 2},
    "prune_and_tune": {"method": "prune_and_tune", "num_members": 2, "parent_share": 0.5},
    "prune_and_tune_released": {
        "method": "prune_and_tune",
        "num_members": 3,
        "parent_share": 0.5,
        "variant": "released",
    },
    "nfe": {"method": "nfe", "num_members": 3, "sparsity": 0.5, "snip_images": 64},
}

AUGMENTED = {"crop_padding": 1, "flip": True, "cutout": 2, "mixup": 0.2}


def train(run: Run, results: Results) -> None:
    """A run's process: checkpoints after every step, so that any moment of death is one between two of them."""
    torch.set_num_threads(1)
    machine = Machine(Location(offline=True), device="cpu", threads=1, checkpoint_seconds=0.0)
    execute(run, results, machine, Reporter(results.run_dir(run.key), lambda: False))


def start(run: Run, results: Results) -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmark.run"])
    process = context.Process(target=train, args=(run, results))
    process.start()
    return process


def wait_until(reached: Callable[[], bool], process: Any) -> None:
    deadline = time.monotonic() + 60
    while process.is_alive() and not reached():
        assert time.monotonic() < deadline, "the point to kill at was never reached"
        time.sleep(0.001)


def kill_when(reached: Callable[[], bool], run: Run, results: Results) -> bool:
    """Start a run and SIGKILL it at a point; whether it was alive until then."""
    process = start(run, results)
    wait_until(reached, process)
    process.kill()
    process.join()
    return bool(process.exitcode)


def step_of(folder: Path) -> tuple[str, int]:
    """Stage and step of the checkpoint on disk."""
    try:
        content = (folder / "checkpoint.state").read_bytes()
    except FileNotFoundError:
        return "", -1
    import io

    state = torch.load(io.BytesIO(content[len(checkpoint.MAGIC) + checkpoint.DIGEST_BYTES :]), weights_only=True)
    return state["stage"], state["step"]


def repeatable(run: Run, results: Results) -> dict[str, Any]:
    """All that a run leaves behind but for times."""
    folder = results.run_dir(run.key)
    row = json.loads((folder / "row.json").read_text())
    del row["checksum"], row["measured"], row["finished"], row["files"]["history.jsonl"]  # times, and what covers them
    history = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    for entry in history:
        del entry["train_seconds"]
    weights = {}
    for path in sorted((folder / "weights").iterdir()):
        state = checkpoint.load(path, key=run.key, device=torch.device("cpu"))
        assert state is not None
        weights |= {f"{path.name}/{name}": tensor for name, tensor in state["network"].items()}
    return {"row": row, "history": history, "weights": weights, "logits": load_file(folder / "logits.safetensors")}


def assert_identical(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first["row"] == second["row"]
    assert first["history"] == second["history"]
    for part in ("weights", "logits"):
        assert first[part].keys() == second[part].keys()
        for name, tensor in first[part].items():
            assert torch.equal(tensor, second[part][name]), f"{part} {name}"


@pytest.mark.parametrize("name", METHODS)
def test_killed_run_ends_as_one_left_alone(name: str, tiny_study: Callable[..., Path], tmp_path: Path) -> None:
    study = resolved_study(str(tiny_study(methods=[METHODS[name]], recipe={"augmentation": AUGMENTED})))
    [run] = expand(study)
    alone, killed = Results(tmp_path / "alone"), Results(tmp_path / "killed")
    process = start(run, alone)
    process.join()
    assert process.exitcode == 0

    folder = killed.run_dir(run.key)
    kills = 0
    kills += kill_when(lambda: step_of(folder)[1] >= 1, run, killed)  # at the start of the first stage
    kills += kill_when(lambda: step_of(folder)[1] >= 4, run, killed)  # mid-epoch: 6 steps an epoch
    kills += kill_when(lambda: any(folder.glob("weights/*.state")), run, killed)  # a stage has just ended
    draw = random.Random(0)
    for _ in range(3):  # wherever it is
        give_up_at = time.monotonic() + draw.uniform(0.05, 0.6)
        kills += kill_when(lambda at=give_up_at: time.monotonic() > at, run, killed)
    process = start(run, killed)
    process.join()
    assert process.exitcode == 0
    assert kills >= 2, "the run was never killed while it worked"
    assert_identical(repeatable(run, alone), repeatable(run, killed))


def test_seeds_and_repeats(tiny_study: Callable[..., Path], tmp_path: Path) -> None:
    """The same run twice is the same; another seed is another."""
    study = resolved_study(str(tiny_study(seeds=[0, 1])))
    first, second = expand(study)
    for results in (Results(tmp_path / "a"), Results(tmp_path / "b")):
        train(first, results)
        train(second, results)
    assert_identical(repeatable(first, Results(tmp_path / "a")), repeatable(first, Results(tmp_path / "b")))
    one = repeatable(first, Results(tmp_path / "a"))["weights"]
    other = repeatable(second, Results(tmp_path / "a"))["weights"]
    assert not torch.equal(one["main.state/stem.weight"], other["main.state/stem.weight"])


@pytest.mark.parametrize("damage", ["truncated", "bit flipped", "of another run", "not ours"])
def test_damaged_checkpoint_is_set_aside(
    damage: str, tiny_study: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Never used, never fatal: the run starts its stage afresh and ends as ever."""
    [run] = expand(resolved_study(str(tiny_study())))
    results, alone = Results(tmp_path / "damaged"), Results(tmp_path / "alone")
    train(run, alone)
    folder = results.run_dir(run.key)
    assert kill_when(lambda: step_of(folder)[1] >= 4, run, results)
    path = folder / "checkpoint.state"
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "bit flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif damage == "of another run":
        checkpoint.save(path, {"key": "another", "stage": "main", "step": 3})
    else:
        path.write_bytes(b"hello")
    train(run, results)
    assert "set aside as checkpoint.state.damaged" in capsys.readouterr().err
    assert (folder / "checkpoint.state.damaged").exists()
    assert_identical(repeatable(run, alone), repeatable(run, results))
