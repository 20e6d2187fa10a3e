"""Reliability diagrams from example files (DeGroot & Fienberg 1983; Guo et al. 2017), one panel per entry."""

from dataclasses import dataclass
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmark.metrics.calibration import ECE_BINS, ece, equal_width_bins
from benchmark.report.gather import Entry, TaskResults
from benchmark.report.plots.drawing import INK, MANY_PANELS_DOTS_PER_INCH, Array, Plot, new_figure, short


@dataclass(frozen=True)
class Bins:
    """Per bin of confidence: the share of images, their accuracy and their mean confidence (0 in an empty bin)."""

    share_B: Array
    accuracy_B: Array
    confidence_B: Array


def reliability(task: TaskResults) -> Plot | None:
    """From example files; entries without any are left out."""
    panels = [(entry, examples) for entry in task.entries if (examples := task.examples(entry))]
    if not panels:
        return None
    columns = min(4, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(max(1.0 + 1.75 * columns, 4.0), 0.4 + 2.65 * lines, MANY_PANELS_DOTS_PER_INCH)
    figure.suptitle(f"{task.title}; {task.pooling}", x=0.01, ha="left", fontsize="medium")
    _draw(figure, columns, panels, task.pooling)
    text = (
        f"Test images by confidence ({task.pooling}) in {ECE_BINS} equally wide bins, those of all seeds together. "
        "Above: accuracy of each bin (filled) and its gap to the mean confidence (hatched); on the diagonal both agree. Below: "
        "the share of images in each bin. The ECE is the mean over seeds."
    )
    return Plot("reliability", "Reliability", text, figure, wide=True)


def bin_examples(examples: pd.DataFrame, pooling: str) -> Bins:
    """The bins of metrics.calibration.ece."""
    confidence_N, correct_N = _predicted(examples, pooling)
    bin_N = equal_width_bins(confidence_N)
    count_B = np.bincount(bin_N, minlength=ECE_BINS)
    divisor_B = np.maximum(count_B, 1)
    return Bins(
        count_B / max(len(examples), 1),
        np.bincount(bin_N, correct_N, ECE_BINS) / divisor_B,
        np.bincount(bin_N, confidence_N, ECE_BINS) / divisor_B,
    )


def _predicted(examples: pd.DataFrame, pooling: str) -> tuple[Array, Array]:
    """Confidence of each image, and 1 where its class is right."""
    correct_N = np.asarray(examples[f"{pooling}_class"] == examples["label"], dtype=np.float64)
    return np.asarray(examples[f"{pooling}_confidence"], dtype=np.float64), correct_N


def _draw(figure: Figure, num_columns: int, panels: list[tuple[Entry, list[pd.DataFrame]]], pooling: str) -> None:
    num_lines = -(-len(panels) // num_columns)
    axes = figure.subplots(2 * num_lines, num_columns, squeeze=False, height_ratios=[3, 1] * num_lines)
    edges, width = np.linspace(0, 1, ECE_BINS + 1)[:-1], 1 / ECE_BINS
    together = [bin_examples(pd.concat(runs, ignore_index=True), pooling) for _, runs in panels]
    highest_share = max(bins.share_B.max() for bins in together)
    for index, ((entry, runs), bins) in enumerate(zip(panels, together, strict=True)):
        line, column = divmod(index, num_columns)
        upper, lower = axes[2 * line : 2 * line + 2, column]
        colour = entry.style.colour
        filled = bins.share_B > 0
        accuracies = bins.accuracy_B[filled]
        upper.bar(edges[filled], accuracies, width, align="edge", color=colour, alpha=0.85, linewidth=0)
        upper.bar(
            edges[filled], bins.confidence_B[filled] - accuracies, width, bottom=accuracies, align="edge",
            facecolor="none", edgecolor="#444444", hatch="/////", linewidth=0.5,
        )  # fmt: skip
        upper.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle="--")
        mean_ece = 100 * float(np.mean([ece(*_predicted(run, pooling)) for run in runs]))
        upper.set_title(f"{fill(short(entry), 22)}\nECE {mean_ece:.2f} %", fontsize=8.5)
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
