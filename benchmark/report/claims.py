"""Claims that one method is ahead of another in a metric, and what the runs of a study say of them.

    nfe-3 > deep_ensemble-3 : accuracy
    mixmo-2 mixing=patch > mimo-2 : shifted/accuracy by 0.02 on cifar100-resnet18

`>` and `<` are about values as they stand: a lower NLL is a `<`. `by` asks for a difference of at least that much, in the
row's units (0.02 of accuracy are two points); a negative one allows for being behind by less. `on` names a task.

A claim is tested by the comparison that the metric allows (compare.py), its difference taken from what `by` asks for.
Where the p-value, adjusted after Holm over all claims of the table that were tested, is below 5 %, the claim is
reproduced or contradicted, by the side on which the difference lies; else undecided. Of one claim, that is the 95 %
interval of the difference lying wholly on one side.
"""

import functools
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmark.errors import UserError, unknown
from benchmark.report.comparisons import ALPHA, at_level_of, difference_cell, p_text, undecided_because
from benchmark.report.gather import Entry, Gathered, TaskResults
from benchmark.report.planned import is_on, would_run
from benchmark.report.quantities import NONE, Quantity, quantity_of
from benchmark.report.sources import source_of
from benchmark.report.table import Cell, Column, Table
from benchmark.statistics import Comparison, Estimate, holm
from benchmark.statistics.comparison import p_value

CLAIM = re.compile(
    r"(?P<first>[^<>]+)(?P<sign>[<>])(?P<second>[^<>]+):\s*(?P<metric>\S+)"
    r"(\s+by\s+(?P<by>\S+))?(\s+on\s+(?P<task>\S+))?\s*"
)
SHAPE = "write it as A > B : metric, where `by 0.02` and `on TASK` may follow"
EFFECT = Quantity(
    "difference", "", None, "of a claim: the first method minus the second, each line in its metric's unit"
)


@dataclass(frozen=True)
class Side:
    """One of the two that a claim compares. Options it doesn't name may be any."""

    method: str
    num_members: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    """An entry's label, where the claim names that very entry."""

    def __str__(self) -> str:
        members = f"-{self.num_members}" if self.method != "single" else ""
        return self.label or " ".join([self.method + members, *(f"{k}={v}" for k, v in self.options.items())])

    def fits(self, entry: Entry) -> bool:
        """Entries that deviate from the study's recipe are compared only where they are named."""
        if self.label:
            return entry.label == self.label
        held = all(key in entry.options and entry.options[key] == value for key, value in self.options.items())
        return (entry.method, entry.num_members) == (self.method, self.num_members) and held and not entry.deviations


@dataclass(frozen=True)
class Claim:
    """The first's value is higher (or lower) than the second's, by more than `least`."""

    first: Side
    second: Side
    metric: str
    higher: bool
    least: float = 0.0
    """In the direction claimed, in the row's units. Negative: the first may be behind by less than that."""
    dataset: str | None = None
    network: str | None = None
    task: str | None = None
    """Name of a task of the study; None: any that the claim fits."""
    source: str = ""
    published: tuple[float, float] | None = None

    def __str__(self) -> str:
        if self.least < 0:
            behind = "below" if self.higher else "above"
            return f"{self.first} not {behind} {self.second} by {-self.least:g} : {self.metric}"
        by = f" by {self.least:g}" if self.least else ""
        return f"{self.first} {'>' if self.higher else '<'} {self.second} : {self.metric}{by}"

    @property
    def where(self) -> str:
        return ", ".join(filter(None, (self.dataset, self.network)))

    def is_about(self, task: TaskResults) -> bool:
        """Published claims are about whole data sets."""
        if self.dataset is not None and not is_on(task.task, self.dataset, self.network):
            return False
        return self.task in (None, task.name)


def parse_claim(text: str, gathered: Gathered) -> Claim:
    """A claim as it is typed, about entries of the study. Raises UserError."""
    found = CLAIM.fullmatch(text.strip())
    if found is None:
        raise UserError(f"--claim {text!r}: {SHAPE}")
    labels = {entry.label: entry for task in gathered.tasks for entry in task.entries}
    tasks = [task.name for task in gathered.tasks]
    if found["task"] and found["task"] not in tasks:
        raise UserError(f"--claim {text!r}: {unknown('task', found['task'], tasks)}")
    try:
        first, second = (_side(found[name].strip(), labels) for name in ("first", "second"))
        source_of(found["metric"], "prob_mean")
    except UserError as error:
        raise UserError(f"--claim {text!r}: {error}") from None
    if first == second:
        raise UserError(f"--claim {text!r}: compares {first} with itself")
    return Claim(first, second, found["metric"], found["sign"] == ">", _least(found["by"], text), task=found["task"])


def _side(name: str, labels: Mapping[str, Entry]) -> Side:
    """By label; a method's name will do where the study has one entry of it."""
    of_method = [label for label, entry in labels.items() if entry.method == name]
    label = of_method[0] if len(of_method) == 1 else name
    if label not in labels:
        raise UserError(unknown("entry", name, labels))
    return Side(labels[label].method, labels[label].num_members, label=label)


def _least(by: str | None, text: str) -> float:
    try:
        least = float(by or 0)
    except ValueError:
        least = math.nan
    if not math.isfinite(least):
        raise UserError(f"--claim {text!r}: by takes a number in the row's units, such as 0.02, not {by!r}")
    return least


@dataclass(frozen=True)
class Tested:
    """A claim on one task."""

    claim: Claim
    task: TaskResults
    first: Entry
    second: Entry
    seen: Comparison

    @property
    def text(self) -> str:
        """The claim with the labels of the entries compared, which tell more than it says."""
        first, second = (Side(entry.method, label=entry.label) for entry in (self.first, self.second))
        return str(replace(self.claim, first=first, second=second))

    @functools.cached_property
    def comparison(self) -> Comparison:
        """The difference counted from the least that is claimed."""
        least = self.claim.least if self.claim.higher else -self.claim.least
        if self.seen.scatter is None or not least:
            return self.seen
        difference = self.seen.difference - least
        parts = self.seen.scatter.parts(self.seen.num_first, self.seen.num_second)
        return replace(self.seen, difference=difference, p_value=p_value(difference, parts))

    def cells(self, adjusted: float | None, num_tested: int) -> list[Cell | str]:
        verdict = self._verdict(adjusted, num_tested)
        return [self._effect(), p_text(self.comparison.p_value), p_text(adjusted), verdict, self._runs()]

    def _effect(self) -> Cell:
        """`+0.6 ± 0.2 points (3/3, 3/3)`"""
        quantity = quantity_of(source_of(self.claim.metric, self.task.pooling))
        cell = difference_cell(self.seen, quantity, self.first, self.second)
        unit = "points" if quantity.unit == "%" else quantity.unit
        number, bracket, counts = cell.text.partition(" (")
        return replace(cell, text=f"{f'{number} {unit}'.rstrip()}{bracket}{counts}")

    def _verdict(self, adjusted: float | None, num_tested: int) -> str:
        if adjusted is None:
            counts = ((self.first, self.seen.num_first), (self.second, self.seen.num_second))
            one = " and of ".join(entry.label for entry, num_runs in counts if num_runs < 2)
            return f"undecided: one run of {one}, two of each are the least"
        if adjusted < ALPHA:
            return "reproduced" if (self.comparison.difference > 0) == self.claim.higher else "contradicted"
        # By Bonferroni's level, which decides whatever comes of the other claims.
        remedy = undecided_because([at_level_of(self.comparison, num_tested)])
        return f"undecided: {remedy}" if remedy else "undecided"

    def _runs(self) -> str:
        """`seeds 0, 1, 2 against 0, 1, 2`"""
        source = source_of(self.claim.metric, self.task.pooling)
        seeds = [entry.runs.loc[entry.runs[source].notna(), "seed"] for entry in (self.first, self.second)]
        return f"seeds {' against '.join(', '.join(map(str, sorted(of_entry))) for of_entry in seeds)}"


@dataclass(frozen=True)
class NotRun:
    """A claim without runs to test it on, and what would give them."""

    claim: Claim
    why: str

    @property
    def text(self) -> str:
        return str(self.claim)

    def cells(self) -> list[Cell | str]:
        return [Cell(None, 0, 0, NONE), NONE, NONE, f"not run: {self.why}", NONE]


def claims_table(gathered: Gathered, claims: Sequence[Claim]) -> Table:
    """One line for each claim and task that it can be tested on, or one that says what would test it."""
    lines = [line for claim in claims for line in _lines(claim, gathered)]
    adjusted = holm([line.comparison.p_value if isinstance(line, Tested) else None for line in lines])
    num_tested = sum(p is not None for p in adjusted)
    located = len(gathered.tasks) > 1 or any(claim.dataset for claim in claims)
    cited = any(claim.source for claim in claims)
    rows: list[list[Cell | str]] = []
    for line, p in zip(lines, adjusted, strict=True):
        row: list[Cell | str] = [line.text]
        if located:
            row.append(line.claim.where or (line.task.name if isinstance(line, Tested) else NONE))
        if cited:
            row += [_published_text(line.claim), line.claim.source]
        rows.append(row + (line.cells(p, num_tested) if isinstance(line, Tested) else line.cells()))
    columns = [
        Column("claim", "claim"),
        *([Column("on", "on")] if located else []),
        *([Column("published", "published"), Column("source", "source")] if cited else []),
        Column("difference", "difference here", EFFECT),
        Column("p", "p"),
        Column("p_adjusted", "p, Holm"),
        Column("verdict", "verdict"),
        Column("runs", "runs used"),
    ]
    text = (
        f"The first method minus the second ({gathered.tasks[0].pooling}) with its 95 % interval. Reproduced where the "
        "difference is the one claimed, contradicted where it is the opposite, by a p-value that, adjusted after Holm over "
        f"the {num_tested} line{'s' * (num_tested != 1)} tested, is below {ALPHA:.2g}; undecided where it is not."
    )
    styles = [line.first.style if isinstance(line, Tested) else None for line in lines]
    return Table("claims", "Claims", text, columns, rows, [], styles)


def _lines(claim: Claim, gathered: Gathered) -> Sequence[Tested | NotRun]:
    """Every task and pair of entries that the claim is about."""
    tested, lacking = [], ""
    for task in filter(claim.is_about, gathered.tasks):
        source = source_of(claim.metric, task.pooling)
        firsts, seconds = (list(filter(side.fits, task.entries)) for side in (claim.first, claim.second))
        for first, second in itertools.product(firsts, seconds):
            comparison = task.compare(first, second, source)
            missing = [entry.label for entry in (first, second) if not entry.finished]
            if comparison is not None:
                tested.append(Tested(claim, task, first, second, comparison))
            elif missing:
                makes = f"python -m benchmark.sweep {gathered.study.name} makes them"
                lacking = f"no finished run of {' and of '.join(missing)}; {makes}"
            else:
                lacking = f"the runs have no {source}"
    return tested or [NotRun(claim, lacking or _remedy(claim))]


def _remedy(claim: Claim) -> str:
    study = would_run(claim)
    if study is not None:
        return f"python -m benchmark.sweep {study} would run it"
    on = f" on {claim.where}" if claim.where else ""
    return f"no packaged study holds {claim.first} and {claim.second}{on}"


def _published_text(claim: Claim) -> str:
    """`96.3 > 96.0 %`"""
    if claim.published is None:
        return NONE
    quantity = quantity_of(source_of(claim.metric, "prob_mean"))
    first, second = (quantity.show(Estimate(value, None, 1)) for value in claim.published)
    return f"{first} {'>' if claim.higher else '<'} {second} {quantity.unit}".rstrip()
