"""Train, predict and score one run of a study's grid: what every launcher calls.

python -m benchmark.run quickstart --index 0
"""

import copy
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark import cost, options
from benchmark.allocator import keep_freed_memory
from benchmark.code_version import code_version
from benchmark.config import Run, Study, expand, load_study
from benchmark.data.load import TaskData, load
from benchmark.endings import Why, forget_ending
from benchmark.errors import Parser, UserError, WorkError, exit_code
from benchmark.evaluate import in_eval_mode, labels_of, write_logits
from benchmark.execution import fastest
from benchmark.lock import Busy, Claim, claim, this_job
from benchmark.machine import SHARED, STOP_SIGNALS, Machine, add_machine_options, machine_from
from benchmark.method import Done, Method
from benchmark.metrics import score
from benchmark.metrics.best_epoch import best_epoch_gains
from benchmark.networks import NETWORKS
from benchmark.plan import Plan, make_plan, network_flops
from benchmark.progress import Reporter, reporter
from benchmark.rows import CHECKED_FILES, file_checksum
from benchmark.store import Results, Row, write_atomically
from benchmark.strict import yaml_text
from benchmark.temporary import clear
from benchmark.trainer import NonFiniteLossError, Stopped, Trainer
from methods import METHODS


def torch_device(name: str) -> torch.device:
    """The device of `--device`; `auto` is the GPU where torch finds one. Raises UserError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not (device.index or 0) < torch.cuda.device_count():
        raise UserError(f"--device {name}: torch finds {torch.cuda.device_count()} GPUs here")
    return device


def resolved_study(name_or_path: str) -> Study:
    """A study with every option of its methods and networks checked and filled in. Raises UserError."""
    return options.resolve(load_study(name_or_path), METHODS, NETWORKS)


def make_method(run: Run) -> Method:
    method: Method = options.build("method", METHODS, run.method, run.options)
    return method


def planned(run: Run) -> Plan | None:
    """How long the run trains and what that costs; None where only its images' files would tell."""
    return make_plan(run, make_method(run))


def execute(run: Run, results: Results, machine: Machine, report: Reporter, retry_before: str | None = None) -> Row:
    """The run's row: the one on disk, or trained, scored and written now.

    A row that failed before `retry_before` (ISO time, UTC) counts as none. Raises Busy where another process holds the
    run or took it over, Stopped where it was asked to stop, UserError for data that are missing or wrong, OSError where
    results can't be written. Everything else that goes wrong is a failed row.
    """
    folder = results.run_dir(run.key)
    with claim(folder) as claimed:
        row = results.row(run.key)
        if row is not None and not (retry_before and row["status"] == "failed" and row["finished"] <= retry_before):
            return row
        forget_ending(folder)
        clear(folder, folder / "weights")
        if machine.threads:
            torch.set_num_threads(machine.threads)
        device = torch_device(machine.device)
        if device.type == "cpu":
            keep_freed_memory()
        data = load(run.task, machine.location)
        try:
            _write_origin(run, folder)
            trained = _trained(run, folder, machine, device, data, report, claimed)
            row = _row(run, device, data, machine) | trained
        except (Stopped, Busy, UserError, OSError):  # no result of the run
            raise
        except Exception as error:
            if not isinstance(error, NonFiniteLossError):
                report.line(traceback.format_exc().rstrip())
            failure, reason = _failure(error)
            row = _row(run, device, data, machine) | {"status": "failed", "failure": failure, "reason": reason}
        claimed.check(now=True)
        results.write_row(row)
        return row


def _write_origin(run: Run, folder: Path) -> None:
    """What is trained, and by which code where that is not a commit's."""
    config = yaml_text({"label": run.label} | run.identity)
    write_atomically(folder / "config.yaml", lambda file: file.write(config.encode()))
    if code_version().diff:
        write_atomically(folder / "code.diff", lambda file: file.write(code_version().diff.encode()))


def _trained(
    run: Run, folder: Path, machine: Machine, device: torch.device, data: TaskData, report: Reporter, claimed: Claim
) -> dict[str, Any]:
    """The part of a row that comes of training, predicting and scoring."""

    def should_stop() -> bool:
        claimed.check()
        return report.should_stop()

    method = fastest(run, make_method(run), data, folder, device)
    cost.reset_peak_memory(device)
    trainer = Trainer(run, method, data, folder, device, machine.checkpoint_seconds, report.progress, should_stop)
    done = trainer.fit()
    peak_bytes = cost.peak_bytes(device)
    with trainer.clock.section("evaluation"), in_eval_mode(done):
        counted = _counted_costs(method, done, trainer)
        logits = trainer.predictor.all_splits(done)
        speed = cost.measure_prediction(partial(trainer.predictor, done), trainer.predictor.images(data.test, 0, 256))
    for split, logits_MNK in logits.items():
        if not np.isfinite(logits_MNK).all():
            raise NonFiniteLossError(f"predictions of {split} are not finite")
    labels = labels_of(data)
    write_logits(folder / "logits.safetensors", logits, labels)
    examples = score.examples(logits, labels)
    write_atomically(folder / "examples.parquet", examples.to_parquet)
    seconds = {f"{name}_seconds": spent for name, spent in trainer.clock.seconds.items()}
    energy = {"energy_joules": trainer.clock.joules} if trainer.clock.meter else {}
    return {
        "status": "done",
        "files": {name: file_checksum((folder / name).read_bytes()) for name in CHECKED_FILES},
        "stages": [
            {"name": stage.name, "epochs": stage.epochs, "steps": stage.num_steps(len(data.train))}
            for stage in trainer.stages
        ],
        "metrics": score.score(logits, labels) | best_epoch_gains(trainer.ledger.history),
        "costs": counted,
        "measured": seconds | energy | speed | {"peak_bytes": peak_bytes},
    }


def _counted_costs(method: Method, done: Done, trainer: Trainer) -> dict[str, int | float]:
    uncompiled = copy.deepcopy(done)  # copies are never compiled, and compiled networks hide what they run
    forward = cost.predict_flops(method, uncompiled, trainer.task)
    last = trainer.stages[-1]
    trained_together = method.num_members if len(trainer.stages) == 1 else 1
    return cost.count_parameters(method, uncompiled, trainer.task) | {
        "forward_flops": forward.executed,
        "forward_flops_nonzero": round(forward.nonzero),
        "training_flops": trainer.ledger.training_flops,
        "training_flops_nonzero": trainer.ledger.training_flops_nonzero,
        "images_seen": trainer.ledger.images_seen,
        "rows_seen": trainer.ledger.images_seen * method.rows_per_image,
        "network_flops": network_flops(trainer.run, trainer.images),
        "undecayed_parameters": cost.count_undecayed(method, uncompiled[last.name], last),
        "member_loss_weight": cost.member_loss_weight(
            method, uncompiled[last.name], trainer.task, last, trained_together
        ),
    }


def _row(run: Run, device: torch.device, data: TaskData, machine: Machine) -> Row:
    """What a row says whatever came of the run."""
    return run.identity | {
        "key": run.key,
        "reason": None,
        "metrics": {},
        "costs": {},
        "measured": {},
        "data": data.record(),
        "environment": {
            "device": device_name(device, machine.runs_per_gpu),
            "threads": torch.get_num_threads(),
            "host": platform.node(),
            "job": this_job(),
            "commit": str(code_version()),
            "diff": code_version().diff_digest,
            "versions": {
                "python": platform.python_version(),
                **{package: version(package) for package in ("torch", "torchvision", "numpy", "scipy")},
            },
        },
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _failure(error: Exception) -> tuple[Why, str]:
    """Why a run failed, as a class and in one line."""
    if isinstance(error, torch.OutOfMemoryError):
        return "oom_device", f"out of memory on device: {str(error).splitlines()[0]}"
    if isinstance(error, MemoryError) or "DefaultCPUAllocator: can't allocate memory" in str(error):
        return "oom_host", "out of memory on host"
    if isinstance(error, NonFiniteLossError):
        return "error", str(error)
    return "error", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def device_name(device: torch.device, runs_per_gpu: int = 1) -> str:
    if device.type == "cuda":
        shared = f"{SHARED}{runs_per_gpu} runs" if runs_per_gpu > 1 else ""
        return torch.cuda.get_device_name(device) + shared
    try:
        models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        models = []
    return models[0].partition(":")[2].strip() if models else platform.processor() or platform.machine()


def stop_on_signals() -> Callable[[], bool]:
    """From now on signals ask to stop at the next step; the returned function says whether one came."""
    asked = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda signum, frame: asked.append(signum))
    return lambda: bool(asked)


def main() -> int:
    parser = Parser(prog="python -m benchmark.run", description=__doc__)
    parser.add_argument("study", help="a packaged study or a YAML file")
    parser.add_argument(
        "--index", type=int, required=True, help="number of the run in the grid, as --dry-run lists them"
    )
    add_machine_options(parser)
    arguments = parser.parse_args()
    study = resolved_study(arguments.study)
    runs = expand(study)
    if not 0 <= arguments.index < len(runs):
        raise UserError(f"--index {arguments.index}: {study.name} has runs 0 to {len(runs) - 1}")
    run, results = runs[arguments.index], Results(arguments.results)
    machine = machine_from(arguments)
    results.create()
    begun = time.monotonic()
    with reporter(run, results.run_dir(run.key), stop_on_signals()) as report:
        try:
            row = execute(run, results, machine, report)
        except Busy as busy:
            report.line(f"{busy}; left to that")
            return 0
        except Stopped:
            raise WorkError(f"{run.key}: stopped; the same command goes on where it stopped") from None
    if row["status"] != "done":
        raise WorkError(f"{run.key}: {row['reason']}")
    results.row(run.key, trusting=False)  # no number of a row that was changed since
    accuracy = row["metrics"]["test/prob_mean/accuracy"]
    print(f"{run.key}: test accuracy {100 * accuracy:.2f} % in {time.monotonic() - begun:.0f} s", file=sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
