"""Run what is missing of a study, here or on a SLURM cluster: plan the grid, train, show progress, end with the report.

python -m benchmark.sweep quickstart
python -m benchmark.sweep my-study.yaml --dry-run
python -m benchmark.sweep cifar100-resnet18 --on slurm --cluster slurm/clusters/one_gpu_per_run.yaml
"""

import argparse
import sys
import time

from benchmark.config import Run, Study, expand, load_study
from benchmark.endings import RETRIES
from benchmark.errors import Parser, UserError, WorkError, exit_code
from benchmark.forecast import Forecaster
from benchmark.here import describe_end, study_forecaster, train
from benchmark.machine import Machine, add_machine_options, machine_from, minutes, named_path, positive
from benchmark.states import FINISHED, QUEUED, RUNNING, RunState, run_states, to_do
from benchmark.store import Results
from benchmark.views import count_states, describe_unfinished, say, status_lines, watch
from slurm.profile import Profile, load_profile
from slurm.states import ask_queue, cluster_states

# torch and submitit are imported inside functions, so that --help and --status answer at once.


def main() -> int:
    arguments = _parser().parse_args()
    _check_combination(arguments)
    results = Results(arguments.results)
    if arguments.status or arguments.watch:
        study = _planned(arguments.study, results)
        return show_status(study, results, arguments.watch)
    if arguments.cancel:
        return cancel(_planned(arguments.study, results), results)
    study, machine = _resolved(arguments.study), machine_from(arguments)
    if arguments.on == "slurm":
        profile = load_profile(arguments.cluster)
        if arguments.dry_run:
            return print_submission(study, results, profile, arguments.retry)
        return submit(study, results, machine, profile, arguments.retry)
    if arguments.dry_run:
        return print_plan(study, results)
    return sweep(study, results, machine, arguments.workers, arguments.retry, arguments.time_limit)


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmark.sweep", description=__doc__)
    parser.add_argument("study", help="a packaged study or a YAML file")
    parser.add_argument("--on", choices=["local", "slurm"], default="local", help="where to run (default: local)")
    parser.add_argument("--cluster", type=named_path, metavar="FILE", help="the cluster's profile, with --on slurm")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--dry-run", action="store_true", help="print what would run and its predicted cost; run nothing")
    what.add_argument("--status", action="store_true", help="list the state of every run")
    what.add_argument("--watch", action="store_true", help="show the states until nothing runs or waits any more")
    what.add_argument("--cancel", action="store_true", help="cancel this study's jobs on the cluster, no others")
    parser.add_argument(
        "--retry", choices=sorted(RETRIES), help="run failed runs again as well, of all classes or of one"
    )
    parser.add_argument(
        "--workers", type=positive, help="runs at once, here (default: one per GPU, else one per core up to 4)"
    )
    parser.add_argument(
        "--time-limit", type=minutes, metavar="MIN", help="start only what ends in time, here: the same sweep goes on"
    )
    add_machine_options(parser)
    return parser


def _check_combination(arguments: argparse.Namespace) -> None:
    """Raises UserError."""
    if arguments.on == "slurm":
        for option, value in (("--workers", arguments.workers), ("--time-limit", arguments.time_limit)):
            if value is not None:
                raise UserError(f"{option} is for runs here; on a cluster the profile says it")
        if arguments.cluster is None and not (arguments.status or arguments.watch or arguments.cancel):
            raise UserError("--on slurm needs --cluster FILE (see slurm/clusters/ for examples)")
    elif arguments.cluster is not None:
        raise UserError("--cluster goes with --on slurm")


def sweep(
    study: Study,
    results: Results,
    machine: Machine,
    num_workers: int | None,
    retry: str | None = None,
    limit_minutes: float | None = None,
) -> int:
    """Train what is missing, then write and print what there is; 1 where a run failed or is still missing."""
    begun = time.monotonic()
    results.create()
    runs = expand(study)
    states = known_states(study, runs, results)
    todo = to_do(states, retry)
    waits = [known.run for known in states if known.state == RUNNING]  # for others: it ends with the whole table
    if todo:
        _prepare(study, todo, machine, here=True)
    _keep_study(study, results)
    there = len(runs) - len(todo) - len(waits)
    say(f"{study.name}: {len(runs)} runs, {there} there already, {len(todo) + len(waits)} to do")
    if todo or waits:
        deadline = begun + 60 * limit_minutes if limit_minutes else float("inf")
        pool = train(study, todo + waits, results, machine, num_workers, bool(retry), deadline)
        if pool.stopped_by:
            results.collect(study, trusting=True)
            raise KeyboardInterrupt
        if limit_minutes and (why := describe_end(pool, limit_minutes)):
            say(why)
    return finish(study, runs, results)


def finish(study: Study, runs: list[Run], results: Results) -> int:
    """Print the table and write the report; 1 where a run failed or is missing.

    Raises UserError, the table printed, where the report refuses a row that was edited by hand.
    """
    # Importing it takes half a second, which --status need not wait for.
    from benchmark.report.write import summary_table, write_report

    rows = results.collect(study, trusting=True)
    states = known_states(study, runs, results)
    if not any(row["status"] == "done" for row in rows.heads.values()):
        raise WorkError(f"no run of {study.name} finished: {describe_unfinished(states, results)}")
    print(summary_table(results, study))
    say(f"report: {write_report(results, study) / 'report.html'}")
    if any(known.state != FINISHED for known in states):
        raise WorkError(describe_unfinished(states, results))
    return 0


def known_states(study: Study, runs: list[Run], results: Results) -> list[RunState]:
    """From the project's own files; where runs are unfinished, from the cluster's queue and accounting too."""
    states = list(run_states(runs, results, results.rows_of(study.name, runs, trusting=True).heads))
    if all(known.state in (FINISHED, RUNNING) for known in states):
        return states
    queue = ask_queue(study.name, results)
    return states if queue is None else cluster_states(states, results, study.name, queue)


def show_status(study: Study, results: Results, watched: bool) -> int:
    """The state of every run on standard output, and the counts."""
    runs = expand(study)
    if watched:
        watch(study.name, lambda: known_states(study, runs, results))
        return 0
    states = known_states(study, runs, results)
    for line in status_lines(states, results):
        print(line)
    print(f"{study.name}: {count_states(states)}")
    return 0


def print_plan(study: Study, results: Results) -> int:
    """The grid on standard output, a line per run with its state and predicted cost."""
    from benchmark.run import planned

    runs = expand(study)
    states = known_states(study, runs, results)
    costs: dict[str, tuple[int, str]] = {}
    total = 0
    for index, known in enumerate(states):
        run = known.run
        kind = run.label + run.task.model_dump_json()  # equal for all seeds
        if kind not in costs:
            plan = planned(run)
            costs[kind] = (plan.training_flops, str(plan)) if plan else (0, "unknown until the images are read")
        flops, cost = costs[kind]
        total += flops if known.is_to_do else 0
        print(f"{index:4}  {run.key}  {run.label}  seed {run.seed}  {known.state}  {cost}")
    print(f"{study.name}: {len(runs)} runs: {count_states(states)}; {total:.3g} training FLOPs to do")
    return 0


def print_submission(study: Study, results: Results, profile: Profile, retry: str | None) -> int:
    """What would be submitted, on standard output; submits nothing."""
    from slurm.launch import max_array_size, plan

    states = known_states(study, expand(study), results)
    planned = plan(states, profile, _forecaster(study, results, profile), retry, max_array_size())
    for line in planned.lines():
        print(line)
    print(f"{study.name}: {len(states)} runs: {count_states(states)}")
    return 0


def submit(study: Study, results: Results, machine: Machine, profile: Profile, retry: str | None) -> int:
    """Submit what is missing as job arrays and return; where nothing is missing any more, end as a sweep here does."""
    from slurm import scheduler
    from slurm.launch import count, launch

    scheduler.require()
    results.create()
    runs = expand(study)

    def own_states() -> list[RunState]:
        return list(run_states(runs, results, results.rows_of(study.name, runs, trusting=True).heads))

    if todo := to_do(cluster_states(own_states(), results, study.name, scheduler.queue()), retry):
        _prepare(study, todo, machine, here=False)
    _keep_study(study, results)
    forecaster = _forecaster(study, results, profile)
    states, submission = launch(study, results, machine.from_anywhere(), profile, own_states, forecaster, retry, say)
    if submission is not None:
        jobs = ", ".join(f"{array.job} ({count(len(array.tasks), 'task')})" for array in submission.arrays)
        num_runs = sum(len(runs) for array in submission.arrays for runs in array.tasks)
        print(f"{study.name}: submitted {count(num_runs, 'run')} as {jobs}")
        return 0
    print(f"{study.name}: {count_states(states)}; nothing to submit")
    if any(known.state in (RUNNING, QUEUED) for known in states):
        return 0
    return finish(study, runs, results)


def cancel(study: Study, results: Results) -> int:
    from slurm.launch import cancel as cancel_jobs

    print(f"{study.name}: cancelled {cancel_jobs(study.name, results)} jobs")
    return 0


def _forecaster(study: Study, results: Results, profile: Profile) -> Forecaster:
    return study_forecaster(study, results, profile.device, profile.training_tflops and profile.training_tflops * 1e12)


def _resolved(name_or_path: str) -> Study:
    from benchmark.run import resolved_study

    return resolved_study(name_or_path)


def _planned(name_or_path: str, results: Results) -> Study:
    """The grid as it was swept last, else as it would be swept now."""
    name = load_study(name_or_path).name
    if (results.study_dir(name) / "study.yaml").is_file():
        try:
            return results.read_study(name)
        except UserError as error:  # damaged, or of another version of this project
            say(f"warning: {error}; the grid is taken from {name_or_path}")
    return _resolved(name_or_path)


def _prepare(study: Study, todo: list[Run], machine: Machine, *, here: bool) -> None:
    """Read every data set once, so that what is missing or doesn't fit is said before anything starts."""
    from benchmark.data.load import load
    from benchmark.plan import check_batch_size
    from benchmark.run import planned, torch_device

    if here:
        torch_device(machine.device)
    for task in {run.task.model_dump_json(): run.task for run in todo}.values():
        num_train = len(load(task, machine.location).train)
        for run in todo:
            if run.task == task:
                check_batch_size(run, num_train)
    for run in {run.label + run.task.model_dump_json(): run for run in todo}.values():
        if run.recipe.budget != "epochs":
            planned(run)


def _keep_study(study: Study, results: Results) -> None:
    try:
        results.write_study(study)
    except OSError as error:
        raise UserError(f"results folder {results.root}: can't be written ({error.strerror})") from None


if __name__ == "__main__":
    sys.exit(exit_code(main))
