"""Damaged results: never a number from a damaged file. What is told is as before, or less and said so, or refused."""

import os
import re
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from PIL import Image

import benchmark.carry
import benchmark.lock
import benchmark.report.__main__ as report
import benchmark.sweep
from benchmark.errors import WorkError
from benchmark.store import Results

from .damage import Damage, damages, remove
from .judge import Answer, Finding, answer
from .sweep_once import Swept, copied, files_below, numbers, sweep_once

ACTIONS = (
    *(
        "report",
        "report",
        "report",
        "report",
        "collected",
        "collected",
        "status",
        "status",
        "resume",
        "resume",
        "resume",
    ),
    *("resume", "again", "again", "bring", "bring", "finish", "plan", "images"),
)


@dataclass(frozen=True)
class Damaged:
    action: str
    path: str
    damage: Damage
    is_cached: bool


def kind(folder: Path) -> tuple[Any, Any]:
    os.environ |= {"XDG_CACHE_HOME": str(folder / "cache"), "PATH": str(folder / "no-programs")}  # no cluster is asked
    swept = sweep_once(folder)
    judge = _Judge(swept, folder / "copy")

    def paths(action: str) -> list[str]:
        if action == "bring":
            return ["packed/1.tar"]
        root = swept.folder / ("stopped" if action in ("resume", "status", "plan") else "done")
        found = [str(path.relative_to(root)) for path in files_below(root)]
        if action == "collected":
            return [path for path in found if not path.startswith("runs/")]
        if action == "resume":
            return [path for path in found if path.startswith("runs/")] + [
                str(path.relative_to(folder)) for path in files_below(swept.cache)
            ]
        if action == "images":
            return [str(path.relative_to(folder)) for path in files_below(folder / "data")][::8]
        if action == "plan":
            return ["speed.jsonl"]
        if action == "again":
            return [path for path in found if path.startswith("runs/")]
        return found

    known = {action: paths(action) for action in ACTIONS}
    examples = st.sampled_from(ACTIONS).flatmap(
        lambda action: st.builds(Damaged, st.just(action), st.sampled_from(known[action]), damages, st.booleans())
    )
    return examples, judge


class _Judge:
    def __init__(self, swept: Swept, copy: Path):
        self.swept, self.copy = swept, copy
        self.done, self.stopped = Results(swept.folder / "done"), Results(swept.folder / "stopped")
        self.caches = {path: path.read_bytes() for path in files_below(swept.cache)}
        self.reference = cache(self._reference)

        def refuse(*_: Any, **__: Any) -> Any:
            raise WorkError("nothing is trained here")

        benchmark.sweep.train = refuse
        benchmark.lock.BEAT_SECONDS = 0.01
        results = copied(self.done.root, copy)
        self.accuracies = [_accuracy(swept.train(index, results.root)) for index in range(len(swept.runs))]
        self.numbers = {run.key: [numbers(self.done, run)] for run in swept.runs}
        for run in swept.runs:  # one whose choice of a form is lost may be trained in another
            if (swept.folder / "other-form" / "runs" / run.key).is_dir():
                self.numbers[run.key].append(numbers(Results(swept.folder / "other-form"), run))
        self.table = self._sweep(results).out

    def __call__(self, example: Damaged) -> str:
        given: Answer = getattr(self, f"_{example.action}")(example)
        return "refused" if given.code else "accepted"

    def _strike(self, results: Results, example: Damaged) -> Path:
        path = results.root / example.path
        others = [other for other in path.parent.glob(f"*{path.suffix}") if other != path]
        if example.path.startswith("runs/"):
            key, name = Path(example.path).parts[1], Path(*Path(example.path).parts[2:])
            others = [results.run_dir(run.key) / name for run in self.swept.runs if run.key != key]
        example.damage.strike(path, [other for other in others if other.is_file()])
        return path

    # What is told of finished runs.

    def _report(self, example: Damaged, root: str = "done") -> Answer:
        results = copied(self.swept.folder / root, self.copy)
        if root == "collected":
            remove(results.root / "runs")
        if example.is_cached:
            _tables(results)
        path = self._strike(results, example)
        kept = self._kept(path) if path.name == "rows.jsonl" else None
        given = _tables(results)
        if given.code == 0 and path.name != "study.yaml":
            whole, less = self.reference(root, "", None), self.reference(root, example.path, kept)
            if given.out != whole.out and not (given.out == less.out and given.warnings):
                raise Finding(f"numbers of a damaged {_what(path)}", _difference(whole.out, given.out), given.err)
        return given

    def _collected(self, example: Damaged) -> Answer:
        """Where only a study's own folder was kept."""
        copied(self.swept.folder / "done", self.swept.folder / "collected")
        remove(self.swept.folder / "collected" / "runs")
        return self._report(example, "collected")

    def _reference(self, root: str, removed: str, kept: frozenset[bytes] | None) -> Answer:
        """Without a file, or with only some of its lines."""
        results = copied(self.swept.folder / root, self.copy.with_name("reference"))
        if kept is not None:
            path = results.root / removed
            path.write_bytes(b"".join(line for line in path.read_bytes().splitlines(True) if line in kept))
        elif removed:
            remove(results.root / removed)
        return _tables(results)

    def _kept(self, path: Path) -> frozenset[bytes]:
        before = (self.done.study_dir("tiny") / "rows.jsonl").read_bytes().splitlines(True)
        return frozenset(path.read_bytes().splitlines(True) if path.is_file() else ()) & frozenset(before)

    def _status(self, example: Damaged) -> Answer:
        results = copied(self.stopped.root, self.copy)
        self._strike(results, example)
        return answer(benchmark.sweep.main, self.swept.study_path, "--status", "--results", results.root)

    def _plan(self, example: Damaged) -> Answer:
        results = copied(self.stopped.root, self.copy)
        self._strike(results, example)
        options = ("--on", "slurm", "--cluster", self.swept.folder / "cluster.yaml", "--dry-run")
        given = answer(benchmark.sweep.main, self.swept.planned_path, *options, "--results", results.root)
        if given.code == 0 and not re.search(r" [0-9.e-]+ hours predicted \(", given.out):
            raise Finding(f"no prediction by a damaged {_what(Path(example.path))}", given.out)
        return given

    def _finish(self, example: Damaged) -> Answer:
        """A sweep that finds all runs done, as far as it can tell."""
        results = copied(self.done.root, self.copy)
        path = self._strike(results, example)
        given = self._sweep(results)
        if given.out not in ("", self.table):
            raise Finding(f"a table of a damaged {_what(path)}", _difference(self.table, given.out), given.err)
        return given

    def _sweep(self, results: Results) -> Answer:
        data = self.swept.folder / "data"
        return answer(
            benchmark.sweep.main, self.swept.study_path, "--results", results.root, "--data-dir", data, reports=True
        )

    # What is trained again or goes on.

    def _resume(self, example: Damaged) -> Answer:
        results = copied(self.stopped.root, self.copy)
        for path, content in self.caches.items():
            remove(path)
            path.write_bytes(content)
        if example.path.startswith("runs/"):
            self._strike(results, example)
            key = Path(example.path).parts[1]
        else:
            others = [*self.caches]
            path = self.swept.folder / example.path
            example.damage.strike(path, [other for other in others if other != path])
            key = self.swept.runs[example.damage.number % len(self.swept.runs)].key
        return self._trained(key, results, example)

    def _images(self, example: Damaged) -> Answer:
        """Where an image that decodes otherwise is another data set: what was trained on the former must not go on."""
        results, path = copied(self.stopped.root, self.copy), self.swept.folder / example.path
        content, pixels = path.read_bytes(), _pixels(path)
        try:
            example.damage.strike(path, [other for other in path.parent.iterdir() if other != path])
            index = example.damage.number % len(self.swept.runs)
            given = self.swept.train(index, results.root, reports=True)  # it says why it decodes again
            if given.code == 0 and _pixels(path) != pixels:
                raise Finding("a run goes on with other images", given.err)
            return given
        finally:
            remove(path)
            path.write_bytes(content)

    def _again(self, example: Damaged) -> Answer:
        results = copied(self.done.root, self.copy)
        self._strike(results, example)
        return self._trained(Path(example.path).parts[1], results, example)

    def _trained(self, key: str, results: Results, example: Damaged) -> Answer:
        index = next(i for i, run in enumerate(self.swept.runs) if run.key == key)
        run = self.swept.runs[index]
        given = self.swept.train(index, results.root)
        if given.code == 0 and "another process is at it" in given.err:
            return given  # by a lock that can't be read: until it has been silent for a minute
        if example.action == "resume" and given.code == 1 and (results.run_dir(key) / "row.json").is_file():
            raise Finding(f"a failed run for a damaged {_what(Path(example.path))}", given.err)
        if given.code == 0 and numbers(results, run) not in self.numbers[key]:
            raise Finding(f"other numbers by a damaged {_what(Path(example.path))}", given.err)
        if given.code == 0 and _accuracy(given) != self.accuracies[index] and example.action == "again":
            raise Finding(f"another accuracy by a damaged {_what(Path(example.path))}", given.out)
        return given

    def _bring(self, example: Damaged) -> Answer:
        results = copied(self.swept.folder / "packed", self.copy)
        archive, here = results.root / "1.tar", Results(self.copy.with_name("here"))
        remove(here.root)
        example.damage.strike(archive, [self.swept.study_path])
        given = answer(benchmark.carry.main, "in", archive, "--results", here.root)
        if given.code:
            if here.root.exists() and any(here.root.rglob("row.json")):
                raise Finding("half of an archive brought in", given.err)
            return given
        with tarfile.open(self.swept.folder / "packed" / "1.tar") as packed:
            before = {member.name: packed.extractfile(member).read() for member in packed}  # type: ignore[union-attr]
        for path in files_below(here.root / "runs"):
            name = str(path.relative_to(here.root))
            if path.name in ("row.json", "examples.parquet", "history.jsonl") and path.read_bytes() != before.get(name):
                raise Finding(f"a damaged {_what(path)} was brought in", given.out, given.err)
        if len([*here.root.glob("runs/*/row.json")]) < len(self.swept.runs) and not given.warnings:
            raise Finding("a run of a damaged archive is left out without a word", given.out)
        return given


def _pixels(path: Path) -> bytes | None:
    try:
        return Image.open(path).convert("RGB").tobytes()
    except (OSError, ValueError, SyntaxError):
        return None


def _accuracy(given: Answer) -> str:
    """What a run says at its end but for the seconds."""
    return given.out.partition(" in ")[0]


def _tables(results: Results) -> Answer:
    return answer(report.main, "tiny", "--results", results.root, "--format", "csv")


def _what(path: Path) -> str:
    if path.suffix in (".parquet", ".jsonl", ".state") and path.parent.name in ("examples", "histories", "weights"):
        return f"{path.parent.name}/*{path.suffix}"
    return path.name if "decoded" not in path.parts else "decoded/*.safetensors"


def _difference(before: str, after: str) -> str:
    lines = zip(before.splitlines(), after.splitlines(), strict=False)
    return "\n".join(f"- {a}\n+ {b}" for a, b in lines if a != b)[:1500]
