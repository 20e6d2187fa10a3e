"""The summary in plain sentences: what is best, by what evidence, and whether the order is established at all.

An order is called established where the best entry's interval shares no point with any other's. That is stricter than
a test of the difference, on purpose: the best of many was picked after looking.
"""

from collections.abc import Callable
from dataclasses import dataclass

from benchmark.report.gather import Entry, Gathered, TaskResults
from benchmark.report.quantities import cell_text, quantity_of
from benchmark.statistics import Estimate

Ranked = list[tuple[Entry, Estimate]]


@dataclass(frozen=True)
class Finding:
    """`Highest test accuracy` / `nfe-3` / `81.2 ± 0.3 (5/5) %, …` / `The order is not established: …`"""

    about: str
    answer: str
    evidence: str
    caution: str = ""


def run_counts(gathered: Gathered) -> str:
    """`12 of 14 planned runs finished: 1 failed, 1 missing.`"""
    counts = gathered.runs["status"].value_counts()
    rest = [f"{counts[status]} {status}" for status in ("failed", "skipped", "missing") if status in counts]
    planned, finished = len(gathered.runs), gathered.finished
    if not rest:
        return f"All {planned} planned runs finished."
    return f"{finished} of {planned} planned runs finished; {', '.join(rest)}."


def highest_accuracy(task: TaskResults) -> Finding | None:
    return _best(task, "Highest test accuracy", f"test/{task.pooling}/accuracy")


def lowest_nll(task: TaskResults) -> Finding | None:
    """After temperature scaling where validation images allow it: without it, NLL compares how sure networks are."""
    scaled = f"test/{task.pooling}/nll_calibrated"
    if task.holds(scaled):
        return _best(task, "Lowest test NLL after temperature scaling", scaled)
    return _best(task, "Lowest test NLL (no validation images to scale with)", f"test/{task.pooling}/nll")


def most_accurate_under_shift(task: TaskResults) -> Finding | None:
    return _best(task, "Highest accuracy on corrupted images", f"shifted/{task.pooling}/accuracy")


def cheapest_training(task: TaskResults) -> Finding | None:
    return _cheapest(task, "Fewest training FLOPs among ensembles", "costs/training_flops", "measured/train_seconds")


def cheapest_prediction(task: TaskResults) -> Finding | None:
    return _cheapest(
        task, "Fewest FLOPs to predict among ensembles", "costs/forward_flops", "measured/latency_ms_batch1"
    )


FINDINGS: list[Callable[[TaskResults], Finding | None]] = [
    highest_accuracy,
    lowest_nll,
    most_accurate_under_shift,
    cheapest_training,
    cheapest_prediction,
]


def find(task: TaskResults) -> list[Finding]:
    return [finding for finding in (look(task) for look in FINDINGS) if finding is not None]


def _best(task: TaskResults, about: str, source: str) -> Finding | None:
    ranked = _rank(task.entries, source)
    if not ranked:
        return None
    best = ranked[0][0]
    rivals = [entry for entry, _ in ranked[1:2]]
    single = [entry for entry in task.entries if entry.method == "single" and not entry.deviations][:1]
    named = {entry.label for entry, _ in ranked[:2]}
    evidence = [
        _shown(source, best),
        *(f"next {entry.label} with {_shown(source, entry)}" for entry in rivals),
        *(f"{entry.label} with {_shown(source, entry)}" for entry in single if entry.label not in named),
    ]
    return Finding(about, best.label, ", ".join(evidence), _caution(task, ranked))


def _caution(task: TaskResults, ranked: Ranked) -> str:
    """Why the order may not be read as one."""
    absent = [entry for entry in task.entries if not entry.finished]
    gaps = f" {_names(absent)}: no run finished." if absent else ""
    (_, best), *others = ranked
    if not others:
        return f"Nothing to compare with.{gaps}"
    if best.half_width is None:
        return f"One run, no interval: the order is not established.{gaps}"
    overlapping = [entry for entry, estimate in others if best.overlaps(estimate)]
    one_run = [entry for entry, estimate in others if estimate.half_width is None]
    if overlapping:
        return f"Its interval overlaps with that of {_names(overlapping)}: the order is not established.{gaps}"
    if one_run:
        return f"Only one run of {_names(one_run)}: the order is not established.{gaps}"
    return f"Its interval is apart from every other.{gaps}"


def _cheapest(task: TaskResults, about: str, counted: str, measured: str) -> Finding | None:
    ensembles = [entry for entry in task.entries if entry.method != "single"]
    relative = "relative/" if task.holds(f"relative/{counted}") else ""
    ranked = _rank(ensembles, relative + counted)
    if not ranked:
        return None
    least = ranked[0][1].mean
    tied = [entry for entry, estimate in ranked if estimate.mean <= least * (1 + 1e-9)]
    evidence = [f"{quantity_of(counted).title} {_shown(relative + counted, tied[0])}"]
    for entry in tied:
        if entry.estimate(relative + measured):
            whose = f"{entry.label}: " if len(tied) > 1 else ""
            time = quantity_of(measured).title
            evidence.append(f"{whose}measured {time} {_shown(relative + measured, entry)}")
    caution = "Times come from different devices." if len(task.devices) > 1 else ""
    return Finding(about, _names(tied), "; ".join(evidence), caution)


def _rank(entries: list[Entry], source: str) -> Ranked:
    """Entries with a number, best first; equal ones in the study's order."""
    found = [(entry, entry.estimate(source)) for entry in entries]
    sign = -1 if quantity_of(source).better == "higher" else 1
    return sorted(((entry, e) for entry, e in found if e is not None), key=lambda pair: sign * pair[1].mean)


def _shown(source: str, entry: Entry) -> str:
    """`81.2 ± 0.3 % (5/5)`"""
    text = cell_text(source, entry.estimate(source), entry.finished, entry.planned)
    number, _, count = text.rpartition(" ")
    unit = quantity_of(source).unit
    return f"{number} {unit} {count}" if unit else text


def _names(entries: list[Entry]) -> str:
    shown = [entry.label for entry in entries]
    if len(shown) > 4:
        shown[3:] = [f"{len(shown) - 3} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
