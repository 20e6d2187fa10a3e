"""The soak's own judgement: what it takes for a difference, and that its faults happen. Sweeps under faults are not tested
here: `python -m tests.soak --minutes 30` takes its time."""

import copy
import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from soak.faults import FAULTS, fill_disk, jump, signal_to, small_disk
from soak.long_sweep import Sample, grown
from soak.outcome import compare, expect_nothing_stray, left_by
from soak.sweeps import Difference, Sweep

ROW = {
    "key": "a",
    "checksum": "1",
    "finished": "then",
    "measured": {"train_seconds": 1.0},
    "metrics": {"nll": 0.5},
    "environment": {"host": "here", "job": None, "threads": 1},
}


@dataclass
class Attacked:
    results: Path
    sweeps: list[Sweep] = field(default_factory=list)
    draw: random.Random = field(default_factory=lambda: random.Random(0))

    def working(self) -> list[Sweep]:
        return [sweep for sweep in self.sweeps if sweep.works]

    def start(self) -> None:
        raise NotImplementedError


def results_with(folder: Path, row: dict[str, Any], predictions: bytes = b"0.1") -> dict[str, Any]:
    (folder / "runs/a").mkdir(parents=True)
    (folder / "runs/a/row.json").write_text(json.dumps(row))
    (folder / "runs/a/logits.safetensors").write_bytes(predictions)
    for part in ("examples", "histories"):
        (folder / "soak" / part).mkdir(parents=True)
    (folder / "soak/rows.jsonl").write_text(json.dumps(row))
    return left_by(folder)


def changed(path: tuple[str, ...], value: object) -> dict[str, Any]:
    row: dict[str, Any] = copy.deepcopy(ROW)
    part = row
    for name in path[:-1]:
        part = part[name]
    part[path[-1]] = value
    return row


def ended(script: str, tmp_path: Path, sent: set[int] | None = None) -> Sweep:
    with open(tmp_path / "said", "wb") as said:
        process = subprocess.Popen([sys.executable, "-c", script], stderr=said)
    sweep = Sweep(process, tmp_path / "said", sent or set())
    sweep.wait(20)
    return sweep


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("checksum",), "2"),
        (("finished",), "now"),
        (("measured", "train_seconds"), 2.0),
        (("environment", "host"), "there"),
        (("environment", "job"), "12_3"),
    ],
)
def test_times_host_and_job_are_no_difference(path: tuple[str, ...], value: object, tmp_path: Path) -> None:
    compare(results_with(tmp_path / "a", ROW), results_with(tmp_path / "b", changed(path, value)))


def test_any_other_number_and_any_byte_of_predictions_is_a_difference(tmp_path: Path) -> None:
    alone = results_with(tmp_path / "a", ROW)
    row = changed(("metrics", "nll"), 0.5000001)
    with pytest.raises(Difference, match=r"metrics/nll: 0\.5 undisturbed, 0\.5000001 after"):
        compare(alone, results_with(tmp_path / "b", row))
    with pytest.raises(Difference, match="predictions"):
        compare(alone, results_with(tmp_path / "c", ROW, b"0.2"))
    with pytest.raises(Difference, match="only undisturbed"):
        compare(alone, {})


@pytest.mark.parametrize("place", ["results/runs/a/.row.json.0123abcd-7-9.tmp", "results/x.damaged", "t/pymp-1"])
def test_stray_files_are_a_difference(place: str, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    expect_nothing_stray(tmp_path / "results", tmp_path / "t", [])
    (tmp_path / place).mkdir(parents=True)
    with pytest.raises(Difference, match="stray files"):
        expect_nothing_stray(tmp_path / "results", tmp_path / "t", [])


def test_a_sweep_may_end_only_as_what_was_done_to_it_explains(tmp_path: Path) -> None:
    ended("", tmp_path).judge()
    fails = "import sys; sys.exit('failed: x')"
    ended(fails, tmp_path).judge()
    interrupted = "import os, sys; print('interrupted; go on', file=sys.stderr); os._exit(130)"
    ended(interrupted, tmp_path, {signal.SIGTERM}).judge()
    killed = "import os; os.kill(os.getpid(), 9)"
    ended(killed, tmp_path, {signal.SIGKILL}).judge()
    for script in (interrupted, killed, "1 / 0", "import sys; sys.exit(3)"):
        with pytest.raises(Difference):
            ended(script, tmp_path).judge()


def test_faults_tell_whether_they_met_the_program(tmp_path: Path) -> None:
    kill = signal_to(lambda sweep: [sweep.pid], signal.SIGKILL)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    sweep = Sweep(process, tmp_path)
    attacked = Attacked(tmp_path, [sweep])
    (tmp_path / "row.json").write_text("{}")
    assert jump(-1)(attacked)
    assert (tmp_path / "row.json").stat().st_mtime < time.time() - 3500
    assert kill(attacked)
    assert process.wait(20) == -signal.SIGKILL
    assert sweep.sent == {signal.SIGKILL}
    assert not any(FAULTS[name](attacked) for name in FAULTS if "to the sweep" in name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_full_disk_takes_no_byte_until_it_is_free_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as can_be_filled:
        if not can_be_filled:
            pytest.skip("no file system may be mounted here")
        results = tmp_path / "disk/results"
        results.mkdir()
        fault = threading.Thread(target=fill_disk, args=(Attacked(results),))
        fault.start()
        refused = False
        with open(results / "row.json", "wb", buffering=0) as row:
            while fault.is_alive() and not refused:
                try:
                    row.write(b"1" * 4096)  # what is given back would be free for the next try
                    time.sleep(0.01)
                except OSError as error:
                    refused = error.errno == errno.ENOSPC
        fault.join()
        assert refused
        (results / "row.json").unlink(missing_ok=True)
        (results / "row.json").write_bytes(b"1")


def test_what_grows_over_a_long_sweep_is_named() -> None:
    sample = Sample(20, 1.0, 800.0, 750.0, 11, 11, 3, 5, 68)
    busy = replace(sample, server_files=15)
    assert grown([sample, busy, sample, busy]) == []
    assert grown([sample, sample, replace(sample, sweep_mib=820.0), replace(sample, sweep_mib=840.0)]) == [
        "sweep_mib: 800.0 to 820.0"
    ]
