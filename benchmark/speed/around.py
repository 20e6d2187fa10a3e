"""What a run costs besides training steps: predictions, checkpoints, scores, starting up."""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmark import checkpoint, cost
from benchmark.errors import WorkError
from benchmark.machine import Machine
from benchmark.metrics import score
from benchmark.run import resolved_study
from benchmark.speed.bench import Bench, Row
from benchmark.speed.subject import Driven
from benchmark.store import Results
from benchmark.timing import Spread, in_turns, times_as_long

SCORED_IMAGES = 10_000
THROUGHPUT_BATCH = 256


def prediction(bench: Bench) -> Iterator[Row]:
    """One image, and a batch of 256, by every member of each method."""
    ways: dict[str, Callable[[], object]] = {}
    for subject in bench.subjects:
        x_BCHW = subject.trainer.predictor.images(subject.data.test, 0, THROUGHPUT_BATCH)
        predict = partial(subject.trainer.predictor, subject.done)
        ways[f"{subject.name} 1"], ways[f"{subject.name} 256"] = partial(predict, x_BCHW[:1]), partial(predict, x_BCHW)
        for network in subject.done.values():
            network.eval()
    seconds = bench.in_turns(ways)
    first = bench.subjects[0]
    first_flops = cost.predict_flops(first.method, first.done, first.trainer.task).executed
    for subject in bench.subjects:
        one, many = seconds[f"{subject.name} 1"], seconds[f"{subject.name} 256"]
        flops = cost.predict_flops(subject.method, subject.done, subject.trainer.task).executed
        yield {
            "name": subject.name,
            "latency_ms_batch1": Spread.of(one) * 1000,
            "throughput_batch256": Spread.of(many).inverse(THROUGHPUT_BATCH),
            f"time_of_{first.name}": times_as_long(many, seconds[f"{first.name} 256"]),
            f"flops_of_{first.name}": flops / first_flops,
        }
        for network in subject.done.values():
            network.train()


def checkpoints(bench: Bench) -> Iterator[Row]:
    """Writing and reading a stage's state, and the share of training time that writing takes at the default interval."""
    for driven in bench.driven:
        driven.step()
        with tempfile.TemporaryDirectory(prefix="speed-") as folder:
            path = Path(folder) / "checkpoint.state"
            load = partial(checkpoint.load, path, key=driven.trainer.run.key, device=bench.device)
            # By the wall clock: a disk takes no processor time.
            seconds = in_turns({"save": partial(_save, driven, path), "load": load}, bench.rounds)
            spent = Spread.of(seconds["save"])
            yield {
                "name": driven.name,
                "mib": path.stat().st_size / 2**20,
                "save_ms": spent * 1000,
                "load_ms": Spread.of(seconds["load"]) * 1000,
                "share_of_training": spent.median / Machine.checkpoint_seconds,
            }


def _save(driven: Driven, path: Path) -> None:
    state = driven.trainer._state(driven.network) | {"stage": driven.stage.name, "step": 1}
    checkpoint.save(path, state | {"optimizer": driven.optimizer.state_dict()})


def scoring(bench: Bench) -> Iterator[Row]:
    """All metrics of a run's test images, once it has predicted them."""
    random = np.random.default_rng(0)
    ways: dict[str, Callable[[], object]] = {}
    for num_members in sorted({subject.method.num_members for subject in bench.subjects}):
        shape = num_members, SCORED_IMAGES, bench.subjects[0].data.num_classes
        logits_MNK = random.standard_normal(shape, np.float32)
        labels_N = random.integers(0, shape[2], SCORED_IMAGES)
        logits_MNK[:, np.arange(SCORED_IMAGES), labels_N] += 3
        ways[f"{num_members} members"] = partial(score.score, {"test": logits_MNK}, {"test": labels_N})
    for name, spent in bench.in_turns(ways).items():
        yield {"name": name, "ms": Spread.of(spent) * 1000}


COMMANDS = {
    "report --help": ["benchmark.report", "--help"],
    "sweep quickstart --status": ["benchmark.sweep", "quickstart", "--status"],
}


def start_up(bench: Bench) -> Iterator[Row]:
    """Processes of their own: what answers at once, and a run until its first step is done."""
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        Results(Path(folder)).write_study(resolved_study("quickstart"))  # as if it had been swept
        ways: dict[str, Callable[[], object]] = {}
        for name, (module, *arguments) in COMMANDS.items():
            results = [] if "--help" in arguments else ["--results", folder]
            ways[name] = partial(_run_command, [module, *arguments, *results])
        ways["run quickstart, to its first step"] = partial(_first_step, Path(folder))
        for name, spent in in_turns(ways, max(3, bench.rounds // 4)).items():
            yield {"name": name, "seconds": Spread.of(spent)}


def _run_command(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if done.returncode:
        raise WorkError(f"python -m {' '.join(arguments)}: ended with exit code {done.returncode}")


def _first_step(parent: Path) -> None:
    """Returns when the first run of quickstart has reported a step."""
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        command = [sys.executable, "-m", "benchmark.run", "quickstart", "--index", "0", "--results", folder]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not any(Path(folder).glob("runs/*/progress.json")):
                if process.poll() is not None:
                    raise WorkError(f"{' '.join(command[1:])}: ended with exit code {process.returncode}")
                time.sleep(0.01)
        finally:
            process.kill()
            process.wait()
