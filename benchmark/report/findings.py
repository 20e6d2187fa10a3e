"""The summary in plain sentences: what is best, by what evidence, and whether the order is established at all.

An order is called established where the best entry beats each other one in a test whose p-values are adjusted after
Holm: the best of many was picked after looking.
"""

from collections.abc import Callable
from dataclasses import dataclass

from benchmark.report.comparisons import ALPHA, at_level_of, undecided_because
from benchmark.report.equivalents import equivalents
from benchmark.report.gather import Entry, Gathered, TaskResults
from benchmark.report.quantities import cell_text, quantity_of
from benchmark.statistics import Comparison, Estimate, front_probability, holm

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


def worth_in_networks(task: TaskResults) -> Finding | None:
    """Deep-ensemble equivalents, the methods' with the most first."""
    found = equivalents(task)
    entries = [e for e in task.entries if e.label in found and e.method not in ("single", "deep_ensemble")]
    if not entries:
        return None
    entries.sort(key=lambda entry: -found[entry.label].size)
    best = found[entries[0].label]
    if best.censored and best.size == best.smallest:
        each = ", ".join(f"{entry.label} {found[entry.label].text}" for entry in entries)
        return Finding(
            "Worth the most independent networks", "none", f"no method reaches the calibrated NLL of one: {each}"
        )
    tied = [entry for entry in entries if found[entry.label].size == best.size]
    others = [f"{entry.label} {found[entry.label].text}" for entry in entries[1:]]
    return Finding(
        "Worth the most independent networks",
        _names(tied),
        ", ".join([f"{entries[0].label} {best.text} networks of a deep ensemble by calibrated NLL", *others]),
    )


def pareto_front(task: TaskResults) -> Finding | None:
    """Who is not beaten in both accuracy and training FLOPs, by how likely that is."""
    value, cost = f"test/{task.pooling}/accuracy", "costs/training_flops"
    found = [(e, e.estimate(cost), e.estimate(value)) for e in task.entries]
    known = [(e, c, v) for e, c, v in found if c is not None and v is not None and v.half_width is not None]
    if len(known) < 3:
        return None
    chances = front_probability([c for _, c, _ in known], [v for _, _, v in known], higher_is_better=True)
    front = [(entry, chance) for (entry, _, _), chance in zip(known, chances, strict=True) if chance >= 0.5]
    if not front:
        return None
    shown = ", ".join(f"{entry.label} ({chance:.2f})" for entry, chance in front)
    doubtful = [entry for entry, chance in front if chance < 1 - ALPHA]
    caution = f"Likely, not established, for {_names(doubtful)}." if doubtful else ""
    evidence = f"probability that no other method is at least as accurate for no more training FLOPs: {shown}"
    return Finding(
        "On the Pareto front of accuracy and training FLOPs", _names([e for e, _ in front]), evidence, caution
    )


FINDINGS: list[Callable[[TaskResults], Finding | None]] = [
    highest_accuracy,
    lowest_nll,
    worth_in_networks,
    pareto_front,
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
    return Finding(about, best.label, ", ".join(evidence), _caution(task, ranked, source))


def _caution(task: TaskResults, ranked: Ranked, source: str) -> str:
    """Whether the order may be read as one, and why not."""
    absent = [entry for entry in task.entries if not entry.finished]
    gaps = f" {_names(absent)}: no run finished." if absent else ""
    (best, _), *others = ranked
    if not others:
        return f"Nothing to compare with.{gaps}"
    found = [(entry, comparison) for entry, _ in others if (comparison := task.compare(best, entry, source))]
    adjusted = holm([comparison.p_value for _, comparison in found])
    undecided = [pair for pair, p in zip(found, adjusted, strict=True) if p is None or p >= ALPHA]
    if not undecided:
        largest = max(p for p in adjusted if p is not None)
        return (
            f"Better than every other (Holm-adjusted p {f'= {largest:.2g}' if largest >= 0.001 else '< 0.001'}).{gaps}"
        )
    return f"{_undecided(undecided, len(found))}{gaps}"


def _undecided(pairs: list[tuple[Entry, Comparison]], num_compared: int) -> str:
    one_run = [entry for entry, comparison in pairs if comparison.p_value is None]
    if one_run:
        return f"One run each of it or of {_names(one_run)}: the order is not established."
    remedy = undecided_because([at_level_of(comparison, num_compared) for _, comparison in pairs])
    return f"Not shown to be better than {_names([entry for entry, _ in pairs])}{f': {remedy}' if remedy else ''}."


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
