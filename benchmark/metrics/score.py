"""One run's stored logits -> every metric of its row, and its example file."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from benchmark.metrics.accuracy import accuracy
from benchmark.metrics.calibration import brier, ece, fit_temperature, nll, scale
from benchmark.metrics.diversity import disagreement
from benchmark.metrics.out_of_distribution import auroc
from benchmark.metrics.pooling import POOLINGS, pool
from benchmark.metrics.typing import Array, Labels

METRICS = {"accuracy": accuracy, "nll": nll, "brier": brier, "ece": ece}
CALIBRATED = ("nll", "brier", "ece")


def score(logits: Mapping[str, Array], labels: Mapping[str, Labels]) -> dict[str, float]:
    """Metrics by `split/pooling/metric`, as fractions and nats.

    `logits` maps splits to logits_MNK: test, validation (may be missing), shifted/<kind>/<severity>,
    out_of_distribution/<name>; `labels` has all but the last. Temperatures are fitted on validation images alone.
    Under `shifted` stands the mean over kinds and severities, under `shifted/<severity>` that over kinds.
    """
    scored: dict[str, float] = {}
    for pooling in POOLINGS:
        log_p = {split: pool(logits_MNK, pooling) for split, logits_MNK in logits.items()}
        temperature = None
        if "validation" in log_p:
            temperature = fit_temperature(log_p["validation"], labels["validation"])
            scored[f"validation/{pooling}/temperature"] = temperature
        by_split = {split: _score_split(log_p[split], labels[split], temperature) for split in labels}
        for split, values in (by_split | _shift_means(by_split)).items():
            if not split.startswith("shifted/") or split.count("/") == 1:
                scored |= {f"{split}/{pooling}/{metric}": value for metric, value in values.items()}
        for split in log_p:
            if split.startswith("out_of_distribution/"):
                scored[f"{split}/{pooling}/auroc"] = auroc(log_p["test"].max(-1), log_p[split].max(-1))
    members = [pool(member_NK[None], "prob_mean") for member_NK in logits["test"]]
    for metric in ("accuracy", "nll"):
        scored[f"test/member/{metric}"] = float(np.mean([METRICS[metric](p, labels["test"]) for p in members]))
    scored["test/disagreement"] = disagreement(logits["test"])
    return scored


def examples(logits_MNK: Array, labels_N: Labels) -> pd.DataFrame:
    """Per test image: label, and per pooling the predicted class, its probability and the label's probability."""
    columns: dict[str, np.ndarray] = {"label": labels_N.astype(np.int32)}
    for pooling in POOLINGS:
        p_NK = np.exp(pool(logits_MNK, pooling))
        columns[f"{pooling}_class"] = p_NK.argmax(-1).astype(np.int32)
        columns[f"{pooling}_confidence"] = p_NK.max(-1)
        columns[f"{pooling}_true"] = np.take_along_axis(p_NK, labels_N[:, None], axis=-1)[:, 0]
    return pd.DataFrame(columns)


def _score_split(log_p_NK: Array, labels_N: Labels, temperature: float | None) -> dict[str, float]:
    values = {name: metric(log_p_NK, labels_N) for name, metric in METRICS.items()}
    if temperature is not None:
        scaled_NK = scale(log_p_NK, temperature)
        values |= {f"{name}_calibrated": METRICS[name](scaled_NK, labels_N) for name in CALIBRATED}
    return values


def _shift_means(by_split: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Means of each metric over corrupted sets: over all of them, and per severity."""
    shifted = {split: values for split, values in by_split.items() if split.startswith("shifted/")}
    groups = {"shifted": list(shifted.values())} if shifted else {}
    for split, values in shifted.items():
        groups.setdefault(f"shifted/{split.rpartition('/')[2]}", []).append(values)
    return {
        name: {metric: float(np.mean([values[metric] for values in members])) for metric in members[0]}
        for name, members in groups.items()
    }
