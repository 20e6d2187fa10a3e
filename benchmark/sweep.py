"""Run what is missing of a study: plan the grid, train, show progress, end with the table and the report.

python -m benchmark.sweep quickstart
python -m benchmark.sweep my-study.yaml --workers 2
python -m benchmark.sweep cifar100-resnet18 --dry-run
"""

import argparse
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator

from rich.progress import Progress as Bars
from rich.progress import TaskID

from benchmark.config import Run, Study, expand, load_study
from benchmark.errors import UserError, WorkError, exit_code
from benchmark.machine import Machine, add_machine_options, machine_from, num_cores, positive
from benchmark.progress import bars, describe, duration, read_progress
from benchmark.report.write import summary_table, write_report
from benchmark.store import Results, is_held
from benchmark.workers import Outcome, Pool

# torch is imported inside functions, so that --help and --status answer at once.


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmark.sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("study", help="a packaged study or a YAML file")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="list the runs and their predicted cost; train nothing")
    what.add_argument("--status", action="store_true", help="list the state of every run")
    what.add_argument("--retry", choices=["failed"], help="run failed runs again as well")
    parser.add_argument(
        "--workers", type=positive, help="runs at once (default: one per GPU, else one per core up to 4)"
    )
    add_machine_options(parser)
    arguments = parser.parse_args()
    results = Results(arguments.results)
    if arguments.status:
        print_status(_planned(arguments.study, results), results)
        return 0
    if arguments.dry_run:
        print_plan(_resolved(arguments.study), results)
        return 0
    machine = machine_from(arguments)
    return sweep(_resolved(arguments.study), results, machine, arguments.workers, arguments.retry == "failed")


def sweep(study: Study, results: Results, machine: Machine, num_workers: int | None, retry_failed: bool = False) -> int:
    """Train what is missing, then write and print what there is; 1 where a run failed or is still missing."""
    results.create()
    runs = expand(study)
    rows = results.rows(study)
    states = {run.key: rows[run.key]["status"] if run.key in rows else "missing" for run in runs}
    todo = [run for run in runs if states[run.key] == "missing" or (retry_failed and states[run.key] == "failed")]
    if todo:
        _prepare(study, todo, machine)
    _keep_study(study, results)
    say(f"{study.name}: {len(runs)} runs, {len(runs) - len(todo)} there already, {len(todo)} to do")
    interrupted = False
    if todo:
        try:
            _train(todo, results, machine, num_workers, retry_failed)
        except KeyboardInterrupt:
            interrupted = True
    rows = results.collect(study)
    if interrupted:
        raise KeyboardInterrupt
    if not any(row["status"] == "done" for row in rows.values()):
        raise WorkError(f"no run of {study.name} finished: {_reasons(runs, results)}")
    print(summary_table(results, study))
    say(f"report: {write_report(results, study) / 'report.html'}")
    if any(run.key not in rows or rows[run.key]["status"] == "failed" for run in runs):
        raise WorkError(_reasons(runs, results))
    return 0


def print_plan(study: Study, results: Results) -> None:
    """The grid on standard output, a line per run with its state and predicted cost."""
    from benchmark.plan import predicted_training_flops
    from benchmark.run import make_method

    rows, flops_of = results.rows(study), dict[str, int | None]()
    total = 0
    for index, run in enumerate(expand(study)):
        kind = run.label + run.task.model_dump_json()  # equal for all seeds
        if kind not in flops_of:
            flops_of[kind] = predicted_training_flops(run, make_method(run))
        flops = flops_of[kind]
        state = rows[run.key]["status"] if run.key in rows else "missing"
        total += flops or 0 if state == "missing" else 0
        cost = "unknown until the images are read" if flops is None else f"{flops:.3g} training FLOPs"
        print(f"{index:4}  {run.key}  {run.label}  seed {run.seed}  {state}  {cost}")
    missing = sum(run.key not in rows for run in expand(study))
    print(f"{study.name}: {len(expand(study))} runs, {missing} missing, {total:.3g} training FLOPs to do")


def print_status(study: Study, results: Results) -> None:
    """The state of every run on standard output, and the counts."""
    rows, states = results.rows(study), Counter[str]()
    for index, run in enumerate(expand(study)):
        folder = results.run_dir(run.key)
        said = read_progress(folder)
        if run.key in rows:
            state, detail = rows[run.key]["status"], rows[run.key]["reason"] or ""
        elif is_held(folder):
            state, detail = "running", f"{said['stage']} epoch {describe(said)}" if said else ""
        elif said:
            state, detail = "interrupted", f"at {100 * said['share']:.0f} %; the same sweep goes on with it"
        else:
            state, detail = "missing", ""
        states[state] += 1
        print(f"{index:4}  {run.key}  {run.label}  seed {run.seed}  {state}  {detail}".rstrip())
    print(f"{study.name}: " + ", ".join(f"{count} {state}" for state, count in sorted(states.items())))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _resolved(name_or_path: str) -> Study:
    from benchmark.run import resolved_study

    return resolved_study(name_or_path)


def _planned(name_or_path: str, results: Results) -> Study:
    """The grid as it was swept last, else as it would be swept now."""
    name = load_study(name_or_path).name
    return results.read_study(name) if (results.study_dir(name) / "study.yaml").is_file() else _resolved(name_or_path)


def _prepare(study: Study, todo: list[Run], machine: Machine) -> None:
    """Read every data set once, so that what is missing or doesn't fit is said before anything starts."""
    from benchmark.data.load import load
    from benchmark.run import torch_device

    torch_device(machine.device)
    for task in {run.task.model_dump_json(): run.task for run in todo}.values():
        num_train = len(load(task, machine.location).train)
        for run in todo:
            if run.task == task and run.recipe.batch_size > num_train:
                raise UserError(
                    f"{study.name}: {run.label}: batch_size {run.recipe.batch_size} is larger than "
                    f"the {num_train} training images of {task.dataset}"
                )


def _keep_study(study: Study, results: Results) -> None:
    try:
        results.write_study(study)
    except OSError as error:
        raise UserError(f"results folder {results.root}: can't be written ({error.strerror})") from None


def _train(todo: list[Run], results: Results, machine: Machine, num_workers: int | None, retry_failed: bool) -> None:
    import torch

    num_gpus = {"cpu": 0, "auto": torch.cuda.device_count(), "cuda": torch.cuda.device_count()}.get(machine.device, 1)
    # On a CPU, small runs side by side beat threads inside of one.
    pool = Pool(results, machine, num_workers or num_gpus or min(num_cores(), 4), num_gpus, retry_failed)
    with _shown(pool, len(todo)):
        pool.carry_out(todo)


def _reasons(runs: list[Run], results: Results) -> str:
    """What failed or is missing, in one line."""
    states = []
    for run in runs:
        row = results.row(run.key)
        if row is None:
            states.append(f"{run.key} did not finish")
        elif row["status"] == "failed":
            states.append(f"{run.key}: {row['reason']} (log: {results.run_dir(run.key) / 'log'})")
    more = f"; and {len(states) - 3} more" if len(states) > 3 else ""
    return f"{len(states)} of {len(runs)} runs failed or are missing: " + "; ".join(states[:3]) + more


@contextlib.contextmanager
def _shown(pool: Pool, num_runs: int) -> Iterator[None]:
    """Show the pool's progress: bars on a terminal, a line per run elsewhere."""
    if sys.stderr.isatty():
        with bars() as shown:
            view = BarView(pool, shown, num_runs)
            pool.on_start, pool.on_end, pool.on_wait = view.start, view.end, view.refresh
            yield
    else:
        lines = LineView(num_runs)
        pool.on_start, pool.on_end = lines.start, lines.end
        yield


class LineView:
    """A line when a run starts and when it ends."""

    def __init__(self, num_runs: int):
        self.num_runs, self.num_ended = num_runs, 0
        self.started_at: dict[str, float] = {}

    def start(self, run: Run) -> None:
        self.started_at[run.key] = time.monotonic()

    def end(self, outcome: Outcome) -> None:
        self.num_ended += 1
        self.show(f"[{self.num_ended}/{self.num_runs}] {self.describe(outcome)}")

    def describe(self, outcome: Outcome) -> str:
        took = duration(time.monotonic() - self.started_at[outcome.run.key])
        return f"{outcome.run.key}  {outcome.state} after {took}  {outcome.reason}".rstrip()

    def show(self, line: str) -> None:
        say(line)


class BarView(LineView):
    """The same lines above a bar for the study and one for each run under way."""

    def __init__(self, pool: Pool, shown: Bars, num_runs: int):
        super().__init__(num_runs)
        self.pool, self.shown = pool, shown
        self.whole = shown.add_task("study", total=num_runs, state=f"0/{num_runs} runs")
        self.bars: dict[str, TaskID] = {}

    def start(self, run: Run) -> None:
        super().start(run)
        if run.key in self.bars:  # started again: another sweep was at it
            self.shown.remove_task(self.bars[run.key])
        self.bars[run.key] = self.shown.add_task(f"{run.label} seed {run.seed}", total=1.0, state="starting")

    def end(self, outcome: Outcome) -> None:
        super().end(outcome)
        self.shown.remove_task(self.bars.pop(outcome.run.key))

    def refresh(self) -> None:
        shares = 0.0
        for key, bar in self.bars.items():
            said = read_progress(self.pool.results.run_dir(key))
            if said:
                shares += said["share"]
                self.shown.update(bar, completed=said["share"], state=f"{said['stage']} epoch {describe(said)}")
        state = f"{self.num_ended}/{self.num_runs} runs"
        self.shown.update(self.whole, completed=self.num_ended + shares, state=state)

    def show(self, line: str) -> None:
        self.shown.console.print(line, markup=False, highlight=False)


if __name__ == "__main__":
    sys.exit(exit_code(main))
