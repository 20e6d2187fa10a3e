"""How fast scoring, statistics and reports are on this machine, beside other ways to the same numbers.

examples:
    OMP_NUM_THREADS=1 python -m benchmark.report.speed
    python -m benchmark.report.speed --sections scoring temperature bootstrap --json
    python -m benchmark.report.speed --sections report --rows 100000

Ways are measured in turns, A B A B, and compared pair by pair, so that a machine that slows down slows both: the median
of the ratios, and in brackets the lowest and the highest. The predictions and rows are simulated (simulated.py). All
sections take about two minutes. To compare with torch-uncertainty, which the benchmark does not need otherwise:
pip install "torch-uncertainty[cpu]".
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from benchmark.errors import Parser, WorkError, exit_code
from benchmark.metrics import diversity
from benchmark.metrics.calibration import ece, ece_adaptive, nll
from benchmark.metrics.out_of_distribution import mutual_information
from benchmark.metrics.pooling import Members, pool
from benchmark.metrics.prediction import Prediction
from benchmark.metrics.score import score
from benchmark.metrics.selective import aurc
from benchmark.metrics.temperature import fit_temperature, scale
from benchmark.metrics.typing import Array, Labels
from benchmark.report.figures import Figure, in_milliseconds, in_seconds, peak_bytes, times_faster
from benchmark.report.simulated import simulated_logits, write_rows
from benchmark.statistics import Resamples
from benchmark.store import Results
from benchmark.timing import in_turns, seconds_of

NUM_MEMBERS, NUM_IMAGES, NUM_CLASSES = 4, 10_000, 100
NUM_RESAMPLES, NUM_RUNS = 1000, 10
PEER_BATCH = 128
STEPS = ("cold", "cached", "whole")


def main() -> int:
    arguments = _parser().parse_args()
    if arguments.step:
        print(json.dumps(_take_step(arguments.step, Path(arguments.folder))))
        return 0
    figures: list[Figure] = []
    if not arguments.json:
        threads = os.environ.get("OMP_NUM_THREADS", "not set")
        print(f"{os.cpu_count()} cores, OMP_NUM_THREADS {threads}", flush=True)
    for name in dict.fromkeys(arguments.sections):
        for figure in SECTIONS[name](arguments):
            figures.append(figure)
            if not arguments.json:
                print(figure.text, flush=True)
    if arguments.json:
        print(json.dumps([asdict(figure) for figure in figures], indent=1))
    return 0


def _parser() -> Parser:
    parser = Parser(prog="python -m benchmark.report.speed", description=__doc__)
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="default: all")
    parser.add_argument("--rounds", type=_positive, default=7, help="measurements of each way (default: 7)")
    parser.add_argument("--rows", type=_positive, default=10_000, help="of the report (default: 10000)")
    parser.add_argument(
        "--images", type=_positive, default=0,
        help="test images in an example file of every row, for comparisons by bootstrap (default: no such files)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON array")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)  # in a process of its own
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _scoring(arguments: argparse.Namespace) -> Iterator[Figure]:
    """One pass over the logits, and all that a row holds, of test and validation images."""
    logits_MNK, labels_N = simulated_logits(NUM_MEMBERS, NUM_IMAGES, NUM_CLASSES)

    def shared_pass() -> dict[str, float]:
        return score_shared(logits_MNK, labels_N)

    ways, note = {"one update": NUM_IMAGES, f"updates of {PEER_BATCH}": PEER_BATCH}, ""
    try:
        peers = {way: _peer(logits_MNK, labels_N, batch) for way, batch in ways.items()}
    except ImportError as error:
        missing = "torch-uncertainty" if (error.name or "").startswith("torch_uncertainty") else error.name
        peers, note = {}, f'{missing} is not installed: pip install "torch-uncertainty[cpu]"'
    if not peers:
        yield in_milliseconds(
            "scoring", "shared pass", [seconds_of(shared_pass) for _ in range(arguments.rounds + 1)][1:]
        )
        yield Figure("scoring", "torch-uncertainty", None, "", note=note)
    for way, peer in peers.items():
        ours, theirs = in_turns({"ours": shared_pass, "theirs": peer}, arguments.rounds).values()
        yield in_milliseconds("scoring", "shared pass", ours)
        yield in_milliseconds("scoring", f"torch-uncertainty, {way}", theirs)
        asked = 5.0 if way != "one update" else 2.0
        yield times_faster(
            "scoring", f"faster than torch-uncertainty, {way}", ours, theirs, asked, _apart(shared_pass(), peer())
        )
    both = {"test": logits_MNK, "validation": logits_MNK[:, : NUM_IMAGES // 2]}
    labels = {"test": labels_N, "validation": labels_N[: NUM_IMAGES // 2]}
    seconds = [seconds_of(lambda: score(both, labels)) for _ in range(arguments.rounds)]
    yield in_seconds("scoring", "every metric of test and validation images, by both poolings", seconds, 0.5)


def score_shared(logits_MNK: Array, labels_N: Labels) -> dict[str, float]:
    """Nine metrics from one softmax, one sort and one argmax."""
    members = Members(logits_MNK)
    prediction = Prediction(members.pool("prob_mean"), labels_N)
    return {
        "accuracy": float(prediction.correct_N.mean()),
        "nll": float(prediction.nll_N.mean()),
        "brier": float(prediction.brier_N.mean()),
        "ece": ece(*prediction.ranked),
        "ece_adaptive": ece_adaptive(*prediction.ranked),
        "aurc": aurc(*prediction.ranked),
        "disagreement": diversity.disagreement(members.class_MN),
        "ratio_error": diversity.ratio_error(members.class_MN == labels_N),
        "mutual_information": float(mutual_information(prediction.log_p_NK, members.entropy_MN).mean()),
    }


def _peer(logits_MNK: Array, labels_N: Labels, batch: int) -> Callable[[], dict[str, float]]:
    """The same metrics by torch-uncertainty, kept in collections as its classification routine keeps them, of batches
    as its test loop gives them; it has no ratio-error.

    Raises ImportError where it, or what it needs, is not installed.
    """
    theirs: Any = importlib.import_module("torch_uncertainty.metrics")
    torch: Any = importlib.import_module("torch")  # theirs: the benchmark's metrics and reports need none
    torchmetrics: Any = importlib.import_module("torchmetrics")
    logits, labels = torch.from_numpy(logits_MNK), torch.from_numpy(labels_N)
    classes: dict[str, Any] = {"task": "multiclass", "num_classes": NUM_CLASSES}

    def run() -> dict[str, float]:
        pooled = torchmetrics.MetricCollection(
            {
                "accuracy": torchmetrics.Accuracy(**classes),
                "brier": theirs.BrierScore(num_classes=NUM_CLASSES),
                "nll": theirs.CategoricalNLL(),
                "ece": theirs.CalibrationError(**classes, num_bins=15),
                "ece_adaptive": theirs.CalibrationError(**classes, num_bins=15, adaptive=True),
                "aurc": theirs.AURC(),
            },
            compute_groups=[["accuracy"], ["brier"], ["nll"], ["ece", "ece_adaptive"], ["aurc"]],
        )
        of_members = torchmetrics.MetricCollection(
            {"disagreement": theirs.Disagreement(), "mutual_information": theirs.MutualInformation()}
        )
        for start in range(0, len(labels), batch):
            p_NMK = logits[:, start : start + batch].softmax(-1).transpose(0, 1)
            pooled.update(p_NMK.mean(1), labels[start : start + batch])
            of_members.update(p_NMK)
        return {name: float(value) for name, value in (pooled.compute() | of_members.compute()).items()}

    run()  # the first call sets torch up
    return run


def _apart(ours: dict[str, float], theirs: dict[str, float]) -> str:
    name = max(theirs, key=lambda name: abs(ours[name] - theirs[name]))
    return f"numbers differ by {abs(ours[name] - theirs[name]):.1g} at most ({name})"


def _temperature(arguments: argparse.Namespace) -> Iterator[Figure]:
    logits_MNK, labels_N = simulated_logits(NUM_MEMBERS, NUM_IMAGES, NUM_CLASSES)
    log_p_NK = pool(logits_MNK, "prob_mean")

    def nelder_mead() -> float:
        return float(minimize(lambda t: nll(scale(log_p_NK, t[0]), labels_N), [1.0], method="Nelder-Mead").x[0])

    ways = {"ours": lambda: fit_temperature(log_p_NK, labels_N), "theirs": nelder_mead}
    ours, theirs = in_turns(ways, arguments.rounds).values()
    apart = abs(fit_temperature(log_p_NK, labels_N) - nelder_mead())
    yield in_milliseconds("temperature", "Newton", ours)
    yield in_milliseconds("temperature", "Nelder-Mead", theirs)
    yield times_faster("temperature", "faster than Nelder-Mead", ours, theirs, 8.0)
    yield Figure(
        "temperature", "the two temperatures differ by", apart, "", target="1e-4 at most", is_reached=apart < 1e-4
    )


def _bootstrap(arguments: argparse.Namespace) -> Iterator[Figure]:
    """The means of accuracy, NLL and Brier score of every run on every resample."""
    random = np.random.default_rng(0)
    losses_CN = random.gamma(0.3, size=(3 * NUM_RUNS, NUM_IMAGES)).astype(np.float32)
    metrics = np.split(losses_CN, 3)
    losses_NC = np.ascontiguousarray(losses_CN.T)

    def counted() -> np.ndarray:
        resamples = Resamples(NUM_IMAGES, NUM_RESAMPLES)
        return np.stack([resamples.means(losses_SN).mean_R for losses_SN in metrics], axis=1)

    def looped(dtype: type = np.float32) -> np.ndarray:
        # Drawn from the same generator in the same order, so the same images. Whole lines of NC are copied: that is
        # faster than to pick from each of the 30 losses.
        draws = np.random.default_rng(Resamples(NUM_IMAGES).seed)
        means_RC: list[np.ndarray] = []
        for _ in range(NUM_RESAMPLES):
            index_N = draws.integers(0, NUM_IMAGES, NUM_IMAGES, dtype=np.int32)
            means_RC.append(losses_NC[index_N].mean(axis=0, dtype=dtype))
        return np.stack(means_RC)

    ours, theirs = in_turns({"ours": counted, "theirs": looped}, max(3, arguments.rounds // 2)).values()
    exact_RM = looped(np.float64).reshape(NUM_RESAMPLES, len(metrics), NUM_RUNS).mean(axis=2)
    means_RM = counted() + np.array([losses_SN.mean(dtype=np.float64) for losses_SN in metrics])
    apart = float(np.abs(means_RM - exact_RM).max())
    yield in_milliseconds("bootstrap", f"{NUM_RESAMPLES} resamples of {NUM_RUNS} runs by 3 metrics", ours)
    yield in_milliseconds("bootstrap", "index loop", theirs)
    yield times_faster("bootstrap", "faster than the index loop", ours, theirs, 6.0)
    yield Figure("bootstrap", "the means differ by", apart, "", target="1e-6 at most", is_reached=apart < 1e-6)


def _report(arguments: argparse.Namespace) -> Iterator[Figure]:
    """Every step in a process of its own. Seconds are without importing libraries, but for those of the whole report."""
    title = f"{arguments.rows} rows" + (f" with examples of {arguments.images} images" if arguments.images else "")
    with tempfile.TemporaryDirectory(prefix="report-speed-") as folder:
        write_rows(Results(Path(folder)), arguments.rows, arguments.images)
        targets = {"cold": 3.0, "cached": 1.0, "whole": 20.0}
        names = {"cold": "all tables, cold", "cached": "all tables, cached", "whole": "report with plots and page"}
        for step in STEPS:
            start = time.perf_counter()
            command = [sys.executable, "-m", "benchmark.report.speed", "--step", step, "--folder", folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            if done.returncode:
                raise WorkError(f"the step {step!r} of the report ended with exit code {done.returncode}")
            wall_seconds, found = time.perf_counter() - start, json.loads(done.stdout)
            seconds = wall_seconds if step == "whole" else found["seconds"]
            note = f"{found['processor_seconds']:.3g} s of processor time, {wall_seconds:.3g} s with imports"
            yield replace(in_seconds("report", f"{title}, {names[step]}", [seconds], targets[step]), note=note)
            gigabytes = found["peak_bytes"] / 2**30
            yield Figure(
                "report", f"{title}, {names[step]}, peak memory", gigabytes, "GiB",
                target="1 GiB at most", is_reached=gigabytes < 1,
            )  # fmt: skip


def _take_step(step: str, folder: Path) -> dict[str, float]:
    from benchmark.report.across import make_tables_across
    from benchmark.report.tables import make_tables, summary
    from benchmark.report.write import read_finished, write_report

    results = Results(folder)
    start, processor_start = time.perf_counter(), time.process_time()
    study = results.read_study("simulated")
    if step == "whole":
        write_report(results, study)
    else:
        gathered = read_finished(results, study, "prob_mean", allow_mixed=False)
        for task in gathered.tasks:
            make_tables(task)
            summary(task)
        make_tables_across(gathered)
    return {
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - processor_start,
        "peak_bytes": peak_bytes(),
    }


SECTIONS: dict[str, Callable[[argparse.Namespace], Iterator[Figure]]] = {
    "scoring": _scoring,
    "temperature": _temperature,
    "bootstrap": _bootstrap,
    "report": _report,
}


if __name__ == "__main__":
    sys.exit(exit_code(main))
