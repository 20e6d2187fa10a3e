"""One tiny sweep, really trained once in this process, and copies of its results to be damaged."""

import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

import benchmark.carry
import benchmark.run
from benchmark.config import Run, expand
from benchmark.data.sources import Location
from benchmark.endings import Ending, write_ending
from benchmark.machine import Machine
from benchmark.progress import Reporter
from benchmark.run import execute, resolved_study
from benchmark.speed import records
from benchmark.store import Results
from benchmark.trainer import Stopped
from slurm.submissions import Submission, SubmittedArray, submissions_dir, write_submission

from .judge import Answer, answer

STUDY: dict[str, Any] = {
    "tasks": [
        {
            "dataset": "folder",
            "folder": "spots",
            "image_size": 8,
            "network": {"name": "wide_resnet", "depth": 10, "width": 1},
            "validation_images": 8,
        }
    ],
    "recipe": {"epochs": 2, "batch_size": 8, "learning_rate": 0.05, "schedule": {"name": "cosine"}},
    "methods": ["single", {"method": "deep_ensemble", "num_members": 2, "execution": "auto"}],
    "seeds": [0, 1],
}
STEPS_BEFORE_STOP = 6
"""Of an interrupted run: within the second stage of an ensemble, the second epoch of a single network."""


@dataclass(frozen=True)
class Swept:
    """The study file, the images, their cache, and results: of finished runs, of interrupted ones, and packed ones."""

    folder: Path

    @property
    def study_path(self) -> Path:
        return self.folder / "tiny.yaml"

    @property
    def planned_path(self) -> Path:
        """A study of images that are known without their files, so that its cost can be told."""
        return self.folder / "planned.yaml"

    @property
    def cache(self) -> Path:
        return self.folder / "cache" / "tutti" / "decoded"

    @cached_property
    def runs(self) -> list[Run]:
        return expand(resolved_study(str(self.study_path)))

    def train(self, index: int, root: Path, reports: bool = False) -> Answer:
        options = ("--data-dir", self.folder / "data", "--results", root, "--threads", 1, "--device", "cpu")
        return answer(benchmark.run.main, self.study_path, "--index", index, *options, reports=reports)


def sweep_once(folder: Path) -> Swept:
    swept = Swept(folder)
    _write_images(folder / "data" / "spots")
    swept.study_path.write_text(yaml.safe_dump(STUDY, sort_keys=False))
    study, done = resolved_study(str(swept.study_path)), Results(folder / "done")
    for index, run in enumerate(swept.runs):
        _choose_form(run, done)
        given = swept.train(index, done.root)
        assert given.code == 0, given.err
    done.write_study(study)
    done.collect(study)
    other = Results(folder / "other-form")
    for index, run in enumerate(swept.runs):
        if run.options.get("execution") == "auto":
            _choose_form(run, other, 1)
            swept.train(index, other.root)
    stopped = Results(folder / "stopped")
    stopped.write_study(study)
    for run in swept.runs:
        _choose_form(run, stopped)
        steps = iter(range(STEPS_BEFORE_STOP))
        reporter = Reporter(stopped.run_dir(run.key), lambda steps=steps: next(steps, None) is None)
        reporter.line = lambda _: None
        try:
            execute(run, stopped, Machine(Location(folder / "data"), "cpu", 1), reporter)
        except Stopped:
            continue
        raise AssertionError("was not stopped")
    _leave_traces(swept, stopped)
    with contextlib.redirect_stdout(io.StringIO()):
        benchmark.carry.bring_back([str(swept.study_path)], done, folder / "packed", 2**24)
    return swept


def copied(root: Path, to: Path) -> Results:
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(root, to)
    return Results(to)


def numbers(results: Results, run: Run) -> Any:
    """What training and scoring came to."""
    row = json.loads((results.run_dir(run.key) / "row.json").read_bytes())
    return row["status"], row["metrics"], row["costs"]


def files_below(folder: Path) -> Iterator[Path]:
    """Deterministic; without locks, whose content differs from time to time."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path


def _choose_form(run: Run, results: Results, form: int = 0) -> None:
    """Of a method whose form is measured, one form: its last digits may differ from the others'."""
    if run.options.get("execution") == "auto":
        path = results.run_dir(run.key) / "execution.json"
        path.parent.mkdir(parents=True)
        path.write_text(f'{{"form": {form}}}')


def _leave_traces(swept: Swept, results: Results) -> None:
    """Of a cluster that was asked, of a process that ended, and of measured speed."""
    keys = [run.key for run in swept.runs]
    arrays = [SubmittedArray(name="tutti-tiny-1-0", minutes=5, tasks=[keys], job="7")]
    folder = submissions_dir(results.study_dir("tiny")) / "1"
    write_submission(folder, Submission(id="1", created="2026-01-01T00:00:00+00:00", commit="1", arrays=arrays))
    write_ending(results.run_dir(keys[0]), Ending("time_limit", "the profile wants no requeue", job="7"))
    records.append(results.root, [records.record_of(run, "a GPU", 1, 1e9) for run in swept.runs])
    planned = STUDY | {"tasks": [{"dataset": "digits", "network": {"name": "wide_resnet", "depth": 10, "width": 1}}]}
    swept.planned_path.write_text(yaml.safe_dump(planned, sort_keys=False))
    (swept.folder / "cluster.yaml").write_text("time_limit_minutes: 60\ndevice: a GPU\ntraining_tflops: 1\n")


def _write_images(folder: Path) -> None:
    random = np.random.default_rng(0)
    for part, num_images in (("train", 20), ("test", 12)):
        for label in ("dark", "light"):
            place = folder / part / label
            place.mkdir(parents=True)
            for index in range(num_images):
                pixels = random.integers(0, 160, (8, 8, 3)) + (90 if label == "light" else 0)
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{index}.png")
