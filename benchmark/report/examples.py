"""Whether an example file is what its run's row says. Rows bear a checksum, example files don't."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

LOSSES = ("nll", "brier", "nll_calibrated")
"""Columns of example files, under either pooling, whose means stand in the row."""

TOLERANCE = 1e-4
"""Of a mean over float32, relative above 1."""


def why_unfit(examples: pd.DataFrame, row: Mapping[Any, Any], pooling: str) -> str:
    """Why a file can't stand for the run whose metrics are given, by column of the gathered runs; empty where it can."""
    label, predicted, confidence = "label", f"{pooling}_class", f"{pooling}_confidence"
    missing = [name for name in (label, predicted, confidence) if name not in examples]
    if missing:
        return f"lacks the column {missing[0]}"
    losses = [f"{pooling}_{name}" for name in LOSSES if f"{pooling}_{name}" in examples]
    for name in (label, predicted, confidence, *losses):
        if examples[name].dtype.kind not in "iuf" or not np.isfinite(examples[name]).all():
            return f"{name} holds what is no number"
    if not examples[confidence].between(0, 1 + TOLERANCE).all():
        return f"{confidence} is not between 0 and 1"
    told = {"accuracy": float((examples[label] == examples[predicted]).mean())}
    told |= {name.removeprefix(f"{pooling}_"): float(examples[name].to_numpy(np.float64).mean()) for name in losses}
    for metric, value in told.items():
        known = row.get(f"test/{pooling}/{metric}", np.nan)
        if abs(value - known) > TOLERANCE * max(1.0, abs(known)):
            return f"is not this run's: its {metric} is {value:.6g}, the row's {known:.6g}"
    return ""
