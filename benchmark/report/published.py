"""What the papers and their repositories report, as data, and beside what was measured here.

results/published/results.csv   numbers, one a line: PublishedResult
results/published/claims.yaml   claims about them: PublishedClaim

Both are looked for in the results folder, then in the one of this checkout, which an installed package brings along.
"""

import csv
import re
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, field_validator, model_validator

from benchmark.config import TaskConfig
from benchmark.data.catalogue import DATASETS
from benchmark.errors import UserError, unknown
from benchmark.metrics.pooling import POOLINGS
from benchmark.report.claims import Claim, Side
from benchmark.report.gather import Entry, TaskResults
from benchmark.report.planned import is_on
from benchmark.report.sources import source_of
from benchmark.store import Results
from benchmark.strict import Strict, describe, read_yaml

CHECKOUT, INSTALLED = Path(__file__).parents[2] / "results" / "published", Path(__file__).parents[1] / "published"
HERE = CHECKOUT if CHECKOUT.is_dir() else INSTALLED


def _known_dataset(name: str) -> str:
    return _known("data set", name, DATASETS)


def _known_metric(name: str) -> str:
    try:
        source_of(name, POOLINGS[0])
    except UserError as error:
        raise ValueError(str(error)) from None
    return name


def _known(what: str, name: str, allowed: Iterable[str]) -> str:
    if name not in allowed:
        raise ValueError(unknown(what, name, allowed))
    return name


DatasetName = Annotated[str, AfterValidator(_known_dataset)]
MetricName = Annotated[str, AfterValidator(_known_metric)]


class PublishedResult(Strict):
    """A number that a paper or its repository reports."""

    method: str
    num_members: int | None = Field(default=None, ge=1, description="empty: not stated")
    options: str = Field(default="", description="options of the method that the source states: mixing=patch")
    dataset: DatasetName
    network: str = Field(description="as in the names of tasks: wideresnet28x10")
    metric: MetricName
    value: float = Field(description="in the row's units: shares, nats")
    std: float | None = Field(default=None, ge=0, le=1e12, description="over seeds; empty: not stated")
    runs: int | None = Field(default=None, ge=1, le=10**6, description="behind the value; empty: not stated")
    epochs: float | None = Field(default=None, gt=0, description="of each network")
    pooling: str = Field(default="", description="of the members; empty: not stated, or a single network")
    comparable: Literal["yes", "no"] = Field(description="no: cited by claims only; the note says why")
    source: str
    where: str
    note: str = ""
    rounding: float = Field(default=0.0, ge=0, description="half a unit of the value's last digit; from its text")

    @field_validator("options")
    @classmethod
    def _named_options(cls, options: str) -> str:
        for option in options.split():
            if not re.fullmatch(r"\w+=\S+", option):
                raise ValueError(f"{option!r} is no name=value")
        return options

    @field_validator("pooling")
    @classmethod
    def _known_pooling(cls, name: str) -> str:
        return _known("pooling", name, ("", *POOLINGS))

    def fits(self, entry: Entry, task: TaskConfig) -> bool:
        """Same data set, network, method and members, and the options that the source states."""
        stated = (option.split("=", 1) for option in self.options.split())
        return (
            self.comparable == "yes"
            and is_on(task, self.dataset, self.network)
            and (self.method, self.num_members) == (entry.method, entry.num_members)
            and all(str(entry.options.get(name)) == value for name, value in stated)
        )


COLUMNS = [name for name in PublishedResult.model_fields if name != "rounding"]
NUMBERS: dict[str, type[int] | type[float]] = {
    "num_members": int, "value": float, "std": float, "runs": int, "epochs": float
}  # fmt: skip


class PublishedSide(Strict):
    method: str
    num_members: int = Field(default=1, ge=1)
    options: dict[str, Any] = Field(default={})
    value: float | None = None

    @property
    def side(self) -> Side:
        return Side(self.method, self.num_members, self.options)


class Source(Strict):
    name: str
    where: str


class PublishedClaim(Strict):
    """That the first is ahead of the second, or not behind it by more than a margin."""

    id: str
    source: Source
    dataset: DatasetName
    network: str
    first: PublishedSide
    second: PublishedSide
    metric: MetricName
    direction: Literal["higher", "lower"] = Field(description="the value of the first")
    kind: Literal["better", "not_worse"] = "better"
    margin: float = Field(default=0.0, ge=0, description="in the row's units; of not_worse, chosen here")
    note: str = ""

    @model_validator(mode="after")
    def _fits_together(self) -> "PublishedClaim":
        if (self.kind == "not_worse") != (self.margin > 0):
            raise ValueError("a margin goes with kind: not_worse, and it needs one")
        if (self.first.value is None) != (self.second.value is None):
            raise ValueError("published values come in pairs")
        return self

    @property
    def claim(self) -> Claim:
        values = self.first.value, self.second.value
        return Claim(
            self.first.side,
            self.second.side,
            self.metric,
            self.direction == "higher",
            -self.margin,
            self.dataset,
            self.network,
            source=f"{self.source.name}, {self.source.where}{f': {self.note}' if self.note else ''}",
            published=None if values[0] is None or values[1] is None else (values[0], values[1]),
        )


class PublishedClaims(Strict):
    claims: list[PublishedClaim] = Field(min_length=1)

    @field_validator("claims")
    @classmethod
    def _ids_differ(cls, claims: list[PublishedClaim]) -> list[PublishedClaim]:
        ids = [claim.id for claim in claims]
        for name in ids:
            if ids.count(name) > 1:
                raise ValueError(f"id {name!r} stands twice")
        return claims


def published_file(results: Results, name: str) -> Path | None:
    """That of the results folder, else this checkout's; None where neither has it."""
    places = (results.root / "published" / name, HERE / name)
    return next((path for path in places if path.is_file()), None)


def load_claims(results: Results) -> list[Claim]:
    """Raises UserError where there is no claims.yaml or it is damaged."""
    path = published_file(results, "claims.yaml")
    if path is None:
        raise UserError(f"no published claims: neither {results.root / 'published'} nor {HERE} holds claims.yaml")
    content = read_yaml(path, "published claims are a mapping with the key claims")
    try:
        return [published.claim for published in PublishedClaims.model_validate(content).claims]
    except ValidationError as error:
        raise UserError(f"{path}: {describe(error)}") from None


def claims_about(tasks: Iterable[TaskResults], results: Results) -> list[Claim]:
    """The published claims about any of these tasks; none where there is no claims.yaml, which a report can do without."""
    claims = load_claims(results) if published_file(results, "claims.yaml") else []
    return [claim for claim in claims if any(claim.is_about(task) for task in tasks)]


def load_published(results: Results) -> list[PublishedResult]:
    """Empty where there is no results.csv: an installed package has none. Raises UserError where it is damaged."""
    path = published_file(results, "results.csv")
    if path is None:
        return []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            if next(reader, []) != COLUMNS:
                raise UserError(f"{path}: line 1: the columns are {','.join(COLUMNS)}")
            return [_result(cells, f"{path}: line {reader.line_num}") for cells in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: can't be read ({error})") from None


def _result(cells: list[str], where: str) -> PublishedResult:
    if len(cells) != len(COLUMNS):
        raise UserError(f"{where}: has {len(cells)} of {len(COLUMNS)} columns")
    row: dict[str, Any] = dict(zip(COLUMNS, cells, strict=True))
    try:
        for name, number in NUMBERS.items():
            row[name] = number(row[name]) if row[name] else None
        return PublishedResult.model_validate(row | {"rounding": _rounding(cells[COLUMNS.index("value")], where)})
    except ValidationError as error:
        raise UserError(f"{where}: {describe(error)}") from None
    except (ValueError, InvalidOperation, OverflowError):
        raise UserError(f"{where}: {name} is a number, not {row[name]!r}") from None


def _rounding(value: str, where: str) -> float:
    """Half a unit of the last digit."""
    exponent = Decimal(value or "0").as_tuple().exponent
    if not isinstance(exponent, int):
        return 0.0  # of no finite number, which the field refuses
    if abs(exponent) > 30 or len(value) > 40:
        raise UserError(f"{where}: value is a number of usual size, not {value[:40]!r}")
    return 0.5 * 10.0**exponent
