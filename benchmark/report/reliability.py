"""Reliability diagrams from example files (DeGroot & Fienberg 1983; Guo et al. 2017), one panel per method."""

from dataclasses import dataclass
from textwrap import fill

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from benchmark.metrics.calibration import ECE_BINS

Bins = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Per bin of confidence: the share of images, their accuracy and their mean confidence (0 in an empty bin)."""

    share_B: Bins
    accuracy_B: Bins
    confidence_B: Bins

    @property
    def ece(self) -> float:
        return float((self.share_B * np.abs(self.accuracy_B - self.confidence_B)).sum())


def bin_examples(examples: pd.DataFrame, pooling: str, num_bins: int = ECE_BINS) -> Reliability:
    """Bins as in metrics.calibration.ece: of equal width, each with its upper edge, confidence 1.0 in the last."""
    confidence_N = examples[f"{pooling}_confidence"].to_numpy(np.float64)
    correct_N = (examples[f"{pooling}_class"] == examples["label"]).to_numpy(np.float64)
    bin_N = np.clip(np.ceil(confidence_N * num_bins).astype(int) - 1, 0, num_bins - 1)
    count_B = np.bincount(bin_N, minlength=num_bins)
    divisor_B = np.maximum(count_B, 1)
    return Reliability(
        count_B / max(len(examples), 1),
        np.bincount(bin_N, correct_N, num_bins) / divisor_B,
        np.bincount(bin_N, confidence_N, num_bins) / divisor_B,
    )


def draw_reliability(
    figure: Figure, num_columns: int, panels: list[tuple[str, str, list[pd.DataFrame]]], pooling: str
) -> None:
    """Panels of (label, colour, the example files of its runs), each with the histogram of confidence below."""
    num_lines = -(-len(panels) // num_columns)
    axes = figure.subplots(2 * num_lines, num_columns, squeeze=False, height_ratios=[3, 1] * num_lines)
    edges, width = np.linspace(0, 1, ECE_BINS + 1)[:-1], 1 / ECE_BINS
    together = [bin_examples(pd.concat(runs, ignore_index=True), pooling) for _, _, runs in panels]
    highest_share = max(bins.share_B.max() for bins in together)
    for index, ((label, colour, runs), bins) in enumerate(zip(panels, together, strict=True)):
        line, column = divmod(index, num_columns)
        upper, lower = axes[2 * line : 2 * line + 2, column]
        filled = bins.share_B > 0
        accuracies = bins.accuracy_B[filled]
        upper.bar(edges[filled], accuracies, width, align="edge", color=colour, alpha=0.85, linewidth=0)
        upper.bar(
            edges[filled], bins.confidence_B[filled] - accuracies, width, bottom=accuracies, align="edge",
            facecolor="none", edgecolor="#444444", hatch="/////", linewidth=0.5,
        )  # fmt: skip
        upper.plot([0, 1], [0, 1], color="#222222", linewidth=0.8, linestyle="--")
        ece = 100 * float(np.mean([bin_examples(run, pooling).ece for run in runs]))
        upper.set_title(f"{fill(label, 22)}\nECE {ece:.2f} %", fontsize=8.5)
        lower.bar(edges, 100 * bins.share_B, width, align="edge", color=colour, alpha=0.85, linewidth=0)
        upper.set(xlim=(0, 1), ylim=(0, 1.02), yticks=[0, 0.5, 1])
        lower.set(xlim=(0, 1), ylim=(0, 105 * highest_share))
        upper.set_xticks([0, 0.5, 1], [])
        lower.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        lower.set_xlabel("confidence", fontsize=8)
        if column == 0:
            upper.set_ylabel("accuracy", fontsize=8)
            lower.set_ylabel("% of\nimages", fontsize=8)
        for panel in (upper, lower):
            panel.tick_params(labelsize=7.5, labelleft=column == 0)
            panel.grid(visible=False)
    for unused in axes[-2:, len(panels) - num_columns * (num_lines - 1) :].flat:
        unused.remove()
