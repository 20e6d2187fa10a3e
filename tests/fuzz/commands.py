"""Command lines: a word replaced, misspelt, shortened, left out, given twice, or taken from another command."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

import benchmark.carry
import benchmark.methods
import benchmark.report.__main__ as report
import benchmark.report.speed as report_speed
import benchmark.run
import benchmark.speed.__main__ as speed
import benchmark.sweep
import slurm.local_cluster.__main__ as local_cluster
import slurm.task
from benchmark.errors import WorkError
from benchmark.speed import records
from tests.simulated_study import simulate, small_study

from .judge import Finding, answer
from .near_valid import TEXTS

BASES: dict[str, list[str]] = {
    "sweep": [
        "STUDY --dry-run",
        "STUDY --status --results r",
        "STUDY --watch --results r",
        "STUDY --cancel --results r",
        "STUDY --results r --retry all --workers 2 --time-limit 5 --device cpu --threads 1 --checkpoint-seconds 0.5",
        "STUDY --results new --data-dir . --offline --workers 1",
        "STUDY --on slurm --cluster PROFILE --dry-run --results r --retry oom",
        "STUDY --on slurm --cluster PROFILE --results r",
        "STUDY --on local --dry-run",
    ],
    "run": ["STUDY --index 0 --results r --device cpu --threads 1 --offline --data-dir . --checkpoint-seconds 5"],
    "report": [
        "small --results r --methods single,mimo --metric nll,accuracy --group-by method --format latex",
        "small --results r --metric shifted/accuracy --format csv --pooling logit_mean --allow-mixed",
        "small --results r --claims --format markdown",
        "STUDY --results r --claim {single > mimo-2 : accuracy by 0.01 on digits-wideresnet10x1}",
        "small --results r --budget train_hours=4,latency_ms=5 --metric nll --methods single",
    ],
    "speed": [
        "quickstart --sections steps memory --methods single {{method: nfe, num_members: 2}} --rounds 3 --steps 1 --json",
        "--network {{name: resnet, depth: 18}} --dataset cifar10 --batch-size 8 --precision bf16 --compile --threads 1",
        "--device cpu --clock cpu --results r",
    ],
    "report_speed": ["--sections scoring report --rounds 2 --rows 10 --images 5 --json"],
    "carry": [
        "out STUDY --to out --mib 1 --wheels . --data-dir . --results r",
        "back STUDY small.yaml --to back --mib 2 --results r",
        "in a.tar b.tar --results new",
    ],
    "methods": ["nfe", ""],
    "task": ["STUDY --workers 2 --results r --device cpu --offline"],
    "local_cluster": [
        "start DIR --nodes 1 --cpus 2 --gpus 1 --memory-mb 500 --accounting none --slurmd-timeout 9 --set A=b",
        "stop DIR",
        "status DIR",
        "env DIR",
    ],
}
MAINS: dict[str, Callable[[], int]] = {
    "sweep": benchmark.sweep.main,
    "run": benchmark.run.main,
    "report": report.main,
    "speed": speed.main,
    "report_speed": report_speed.main,
    "carry": benchmark.carry.main,
    "methods": benchmark.methods.main,
    "task": slurm.task.main,
    "local_cluster": local_cluster.main,
}
WORDS = [text for text in TEXTS if "\0" not in text] + [
    "\udc80",
    "-1",
    "0",
    "1.5",
    "1e400",
    "nan",
    "inf",
    "٣",
    "--",
    "-h",
    "-x",
]


@dataclass(frozen=True)
class Line:
    command: str
    words: tuple[str, ...]
    change: str
    must_fail: bool = False


@st.composite
def lines(draw: st.DrawFn) -> Line:
    command = draw(st.sampled_from([*BASES]))
    words = split(draw(st.sampled_from(BASES[command])))
    options = [i for i, word in enumerate(words) if word.startswith("--")]
    changes = ["word", "word", "word", "insert", "remove", "twice", "swap", "join", "foreign"]
    changes += ["misspell", "shorten"] if options else []
    change = draw(st.sampled_from(changes if words else ["insert", "foreign"]))
    place, odd = draw(st.integers(0, max(0, len(words) - 1))), draw(st.one_of(st.sampled_from(WORDS), odd_words))
    if change == "word":
        words[place] = odd
    elif change == "insert":
        words.insert(place, odd)
    elif change == "remove":
        del words[place]
    elif change == "twice":
        words.insert(place, words[place])
    elif change == "swap":
        other = draw(st.integers(0, len(words) - 1))
        words[place], words[other] = words[other], words[place]
    elif change == "join" and place + 1 < len(words):
        words[place : place + 2] = [f"{words[place]}={words[place + 1]}"]
    elif change == "foreign":
        words.insert(place, draw(st.sampled_from(["--verbose", "--out", "-v", "--seed", "--resume"])))
        return Line(command, tuple(words), change, True)
    elif change in ("misspell", "shorten"):
        place = draw(st.sampled_from(options))
        words[place] = (
            words[place][:-1] if change == "shorten" else words[place] + draw(st.sampled_from(["s", "-", "_", "É"]))
        )
        return Line(command, tuple(words), change, words[place] != "--methods")
    return Line(command, tuple(words), change, change in ("word", "insert") and not odd.strip())


odd_words = st.text(st.characters(exclude_characters="\0/"), max_size=12)


def split(line: str) -> list[str]:
    """By blanks, but for what stands in braces."""
    words, depth = [""], 0
    for letter in line:
        depth += (letter == "{") - (letter == "}")
        if letter == " " and not depth:
            words.append("")
        elif not (letter in "{}" and depth == (letter == "{")):
            words[-1] += letter
    return [word for word in words if word]


def kind(folder: Path) -> tuple[Any, Any]:
    study = small_study(["single", "mimo"], seeds=2, name="small")
    (folder / "small.yaml").write_text(yaml.safe_dump(study.written(), sort_keys=False))
    (folder / "cluster.yaml").write_text("partition: main\ntime_limit_minutes: 30\n")
    simulate(folder / "r", study, images=30)
    benchmark.sweep.Results(folder / "r").collect(study)
    (folder / "a.tar").write_bytes(b"no archive")
    names = {"STUDY": "small.yaml", "PROFILE": "cluster.yaml", "DIR": "cluster"}
    os.environ.pop("BENCHMARK_DATA", None)
    # Without programs no cluster is asked, and none gets jobs.
    os.environ |= {"XDG_CACHE_HOME": str(folder / "cache"), "PATH": str(folder / "no-programs")}
    _train_nothing()

    def check(line: Line) -> str:
        given = answer(MAINS[line.command], *(names.get(word, word) for word in line.words))
        if line.must_fail and given.code != 2:
            raise Finding(f"silently taken: {line.change}", " ".join(line.words))
        return "refused" if given.code else "accepted"

    return lines(), check


def _train_nothing() -> None:
    """Where a command would start to work in earnest, it fails."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise WorkError("nothing is trained here")

    benchmark.sweep.train = benchmark.run.execute = speed.subjects = refuse
    slurm.task.Crew.work = local_cluster.Cluster.start = records.append = refuse
    report_speed.SECTIONS = dict.fromkeys(report_speed.SECTIONS, refuse)
