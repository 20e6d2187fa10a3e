"""What a quantity is: title, unit, which way is better, and how its numbers are shown."""

import math
from dataclasses import dataclass
from typing import Literal

from benchmark.statistics import Estimate

MINUS = "\N{MINUS SIGN}"
NONE = "–"
"""What a cell without a number shows."""

Better = Literal["higher", "lower"] | None


@dataclass(frozen=True)
class Quantity:
    title: str
    unit: str
    better: Better
    meaning: str
    scale: float = 1.0
    """What a row's number is multiplied by to be shown in `unit`."""
    decimals: int | None = None
    """Fixed decimals; None shows three significant digits."""
    prefix: bool = False
    """Three significant digits with an SI prefix: 36.5 M."""
    counted: bool = False
    """Counted, not measured: equal in every run as a rule, so an interval of width zero is not shown."""
    formula: str = ""
    """In Unicode; N images, K classes, M members, B bins, y the label, p̂ the highest probability."""
    source: str = ""
    """Paper, and where in it."""

    @property
    def arrow(self) -> str:
        return {"higher": "↑", "lower": "↓", None: ""}[self.better]

    def header(self, title: str = "") -> str:
        """`accuracy ↑ (%)`."""
        unit = f"({self.unit})" if self.unit else ""
        return " ".join(part for part in (title or self.title, self.arrow, unit) if part)

    def show(self, estimate: Estimate) -> str:
        """`81.2 ± 0.3`, without the unit, which stands in the header."""
        mean, half_width = estimate.mean * self.scale, estimate.half_width
        if self.counted and half_width == 0:
            half_width = None
        prefix, divisor = si_prefix(mean) if self.prefix else ("", 1.0)
        decimals = _decimals(mean / divisor) if self.decimals is None else self.decimals
        shown = f"{mean / divisor:,.{decimals}f}"
        if not shown.strip("-0."):  # no minus before a zero
            shown = shown.lstrip("-")
        shown = shown.replace("-", MINUS)
        if half_width is not None:
            shown += f" ± {half_width * self.scale / divisor:,.{decimals}f}"
        return f"{shown} {prefix}".rstrip()


def _decimals(value: float) -> int:
    """How many decimals show three significant digits."""
    if value == 0:
        return 0
    return max(0, 2 - math.floor(math.log10(abs(float(f"{value:.2e}")))))


def si_prefix(value: float) -> tuple[str, float]:
    """The prefix that leaves one to three digits before the point, and what it stands for."""
    rounded = abs(float(f"{value:.2e}"))
    for prefix, size in (("E", 1e18), ("P", 1e15), ("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if rounded >= size:
            return prefix, size
    return "", 1.0
