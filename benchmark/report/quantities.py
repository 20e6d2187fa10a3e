"""What every metric and cost is called, its unit, which way is better and what it means.

A new metric of a row is one line here and its name in a table's list.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from benchmark.metrics.calibration import ECE_BINS
from benchmark.statistics import Estimate

MINUS = "\N{MINUS SIGN}"
NONE = "–"
"""What a cell without a number shows."""


@dataclass(frozen=True)
class Quantity:
    title: str
    unit: str
    better: Literal["higher", "lower"] | None
    meaning: str
    scale: float = 1.0
    """What a row's number is multiplied by to be shown in `unit`."""
    decimals: int | None = None
    """Fixed decimals; None shows three significant digits."""
    prefix: bool = False
    """Three significant digits with an SI prefix: 36.5 M."""
    counted: bool = False
    """Counted, not measured: equal in every run as a rule, so an interval of width zero is not shown."""

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


def _percent(title: str, better: Literal["higher", "lower"] | None, meaning: str, decimals: int = 1) -> Quantity:
    return Quantity(title, "%", better, meaning, scale=100, decimals=decimals)


def _count(title: str, unit: str, meaning: str) -> Quantity:
    return Quantity(title, unit, "lower", meaning, prefix=True, counted=True)


def _seconds(title: str, meaning: str) -> Quantity:
    return Quantity(title, "s", "lower", meaning)


CALIBRATED = "after dividing all logits by the temperature"

QUANTITIES: dict[str, Quantity] = {
    "accuracy": _percent("accuracy", "higher", "share of images whose most probable class is the true one"),
    "nll": Quantity("NLL", "nats", "lower", "mean of -log(probability given to the true class)", decimals=3),
    "brier": Quantity("Brier", "", "lower", "mean squared distance of the probabilities to the truth", decimals=3),
    "ece": _percent("ECE", "lower", f"mean gap between confidence and accuracy over {ECE_BINS} equally wide bins", 2),
    "nll_calibrated": Quantity("NLL, scaled", "nats", "lower", f"NLL {CALIBRATED}", decimals=3),
    "brier_calibrated": Quantity("Brier, scaled", "", "lower", f"Brier score {CALIBRATED}", decimals=3),
    "ece_calibrated": _percent("ECE, scaled", "lower", f"ECE {CALIBRATED}", 2),
    "temperature": Quantity(
        "temperature", "", None, "fitted on validation images; above 1 the network was too sure of itself", decimals=2
    ),
    "disagreement": _percent("disagreement", None, "share of images on which two members choose different classes"),
    "gain": Quantity(
        "gain", "points", "higher", "accuracy of the ensemble minus the mean accuracy of its members", 100, decimals=1
    ),
    "auroc": _percent(
        "AUROC", "higher", "chance that a foreign image gets a lower confidence than a test image; 50 % is guessing"
    ),
    "parameters": _count("parameters", "", "numbers that training may change, all networks of a method together"),
    "nonzero_parameters": _count("nonzero parameters", "", "those of them that are not zero at the end"),
    "forward_flops": _count(
        "forward FLOPs", "per image", "to predict one image as it is executed, dense; a multiply-add is two"
    ),
    "forward_flops_nonzero": _count(
        "forward FLOPs, nonzero", "per image", "the same, counting only weights that are not zero"
    ),
    "training_flops": _count(
        "training FLOPs", "", "all training a method needs, three forward passes for each image seen"
    ),
    "training_flops_nonzero": _count(
        "training FLOPs, nonzero", "", "the same, counting only weights that are not zero"
    ),
    "images_seen": _count("images seen", "", "training images that went through a network, repeats counted"),
    "train_seconds": _seconds(
        "training time", "the method's own time: start, loss, backward, optimizer and after each step"
    ),
    "compile_seconds": _seconds("compile time", "torch.compile, not part of training"),
    "evaluation_seconds": _seconds("evaluation time", "predicting every split once, not part of training"),
    "checkpoint_seconds": _seconds("checkpoint time", "writing checkpoints, not part of training"),
    "latency_ms_batch1": Quantity("batch-1 latency", "ms", "lower", "to predict a single image with all members"),
    "throughput_batch256": Quantity(
        "batch-256 throughput", "images/s", "higher", "images predicted per second with all members, 256 at a time"
    ),
    "peak_bytes": Quantity("peak memory", "B", "lower", "largest memory in use during training", prefix=True),
}


def quantity_of(source: str) -> Quantity:
    """The quantity in a column of the gathered runs: `test/prob_mean/accuracy`, `relative/costs/parameters`."""
    quantity = QUANTITIES[source.rpartition("/")[2]]
    if not source.startswith("relative/"):
        return quantity
    meaning = f"{quantity.title} divided by the mean of the single network"
    return replace(quantity, unit="× single", meaning=meaning, scale=1, decimals=2, prefix=False)


def cell_text(source: str, estimate: Estimate | None, finished: int, planned: int) -> str:
    """`81.2 ± 0.3 (5/5)`; `– (0/2)` where no run finished; `–` where runs finished and have no such number."""
    if estimate is not None:
        return f"{quantity_of(source).show(estimate)} ({estimate.num_values}/{planned})"
    return NONE if finished else f"{NONE} (0/{planned})"


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
