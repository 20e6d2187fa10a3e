"""Two entries of a task compared in one column, by the test that the column allows.

Of test images, accuracy, NLL, Brier score and ECE are compared by the two-level bootstrap over seeds and images, where
every finished run of both has an example file of the same images. All else is compared over seeds alone.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmark.report.gather import Entry, TaskResults
from benchmark.statistics import Comparison, Resampled, Resamples, compare_resampled, compare_runs

LOSSES = ("nll", "brier", "nll_calibrated")
"""Columns of example files that are averaged as they are."""


def compare_entries(task: TaskResults, first: Entry, second: Entry, source: str) -> Comparison | None:
    """First minus second in the row's units; None where either has no run with a number."""
    if not len(first.values(source)) or not len(second.values(source)):
        return None
    split, _, metric = source.rpartition("/")
    if split in ("test/prob_mean", "test/logit_mean"):
        sampled = [resampled(task, entry, split.removeprefix("test/")).get(metric) for entry in (first, second)]
        if sampled[0] and sampled[1] and sampled[0].resamples is sampled[1].resamples:
            return compare_resampled(sampled[0], sampled[1])
    return compare_runs(first.values(source), second.values(source))


def resampled(task: TaskResults, entry: Entry, pooling: str) -> Mapping[str, Resampled]:
    """The metrics that an entry's example files tell, on all images and on resampled ones; read and drawn once.

    Empty where a finished run has no file, or where the files are of different images.
    """
    if (entry.label, pooling) not in task.resampled:
        task.resampled[entry.label, pooling] = _resample(task, task.examples(entry, pooling), entry.finished, pooling)
    return task.resampled[entry.label, pooling]


def _resample(task: TaskResults, examples: list[pd.DataFrame], num_runs: int, pooling: str) -> dict[str, Resampled]:
    if not examples or len(examples) < num_runs or any(len(frame) < 2 for frame in examples):
        return {}
    labels_N = examples[0]["label"].to_numpy()
    if not all(np.array_equal(frame["label"].to_numpy(), labels_N) for frame in examples):
        return {}
    # Equal labels in an equal order stand for equal images: the order is the task's.
    resamples = task.resamples.setdefault(labels_N.tobytes(), Resamples(len(labels_N)))

    def column(name: str) -> npt.NDArray[np.float32]:
        return np.stack([frame[f"{pooling}_{name}"].to_numpy(np.float32) for frame in examples])

    correct_SN = (column("class") == labels_N).astype(np.float32)
    found = {"accuracy": resamples.means(correct_SN), "ece": resamples.eces(column("confidence"), correct_SN)}
    for name in LOSSES:
        held = all(f"{pooling}_{name}" in frame for frame in examples)
        if held and np.isfinite(losses_SN := column(name)).all():
            found[name] = resamples.means(losses_SN)
    return found
