"""Train runs on this machine, as many as end within a time limit. No torch before there is something to train."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from benchmark.config import Run, Study
from benchmark.forecast import Forecaster
from benchmark.machine import Machine, num_cores
from benchmark.progress import duration, read_progress
from benchmark.speed import records
from benchmark.store import Results
from benchmark.views import shown_progress
from benchmark.workers import Pool

START_SECONDS_HERE = 5.0
"""What rows don't count: images are read, the device is woken up, predictions are scored. Torch is imported already."""


def train(
    study: Study,
    todo: Sequence[Run],
    results: Results,
    machine: Machine,
    num_workers: int | None = None,
    retries: bool = False,
    deadline: float = math.inf,
) -> Pool:
    """The pool that carried the runs out: what ended it early, and what it left out for want of time.

    `deadline` is on time.monotonic. A run starts in its turn if it can end by then, as far as earlier runs tell.
    """
    import torch

    num_gpus = {"cpu": 0, "auto": torch.cuda.device_count(), "cuda": torch.cuda.device_count()}.get(machine.device, 1)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    pool = Pool(
        results,
        machine,
        num_workers or num_gpus or min(num_cores(), 4),  # on a CPU, small runs side by side beat threads inside of one
        num_gpus,
        retry_before=now if retries else None,
        deadline=deadline,
    )
    if deadline < math.inf:
        pool.seconds_left_of = expected_seconds(study, results, pool.machine)
    with shown_progress(pool, len(todo)):
        pool.carry_out(todo)
    return pool


def expected_seconds(study: Study, results: Results, machine: Machine) -> Callable[[Run], float | None]:
    """How long a run still takes on this machine, from the rows that are there when it is asked; None: nothing tells."""
    from benchmark.run import device_name, torch_device

    forecaster = study_forecaster(study, results, device_name(torch_device(machine.device), machine.runs_per_gpu))
    forecaster.start_seconds = 0.0

    def seconds_left_of(run: Run) -> float | None:
        forecaster.look_again()
        seconds = forecaster(run).seconds
        return None if seconds is None else START_SECONDS_HERE + seconds * (1 - _share_done(run, results))

    return seconds_left_of


def study_forecaster(
    study: Study, results: Results, device: str | None, stated_rate: float | None = None
) -> Forecaster:
    """`stated_rate` in FLOP/s, for devices of which no row and no measurement tells."""

    def count(run: Run) -> int | None:
        from benchmark.run import planned

        plan = planned(run)
        return plan.training_flops if plan else None

    rows, measured = (lambda: results.rows(study, trusting=True).values()), (lambda: records.read(results.root))
    return Forecaster(rows, count, device, stated_rate, measured)


def describe_end(pool: Pool, limit_minutes: float) -> str:
    """Why a time limit left something to do, in one line; empty where it did not."""
    if pool.stopped_by == 0:
        return f"stopped after {limit_minutes:g} minutes; the same command goes on"
    if not pool.left_out:
        return ""
    shortest = min(seconds for _, seconds in pool.left_out)
    runs = "1 run" if len(pool.left_out) == 1 else f"{len(pool.left_out)} runs"
    return (
        f"{runs} left out, of about {duration(shortest)} or more each, which could not end in time "
        f"(--time-limit {limit_minutes:g}); the same command goes on"
    )


def _share_done(run: Run, results: Results) -> float:
    """Of a run that was interrupted and goes on from its checkpoint."""
    folder = results.run_dir(run.key)
    said = read_progress(folder) if (folder / "checkpoint.state").is_file() else None
    return min(said["share"], 1.0) if said else 0.0
