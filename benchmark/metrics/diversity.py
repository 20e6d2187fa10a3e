"""How members differ."""

import itertools

import numpy as np

from benchmark.metrics.typing import Array


def disagreement(logits_MNK: Array) -> float:
    """Share of images on which two members predict different classes, mean over pairs; 0 for one member."""
    classes_MN = logits_MNK.argmax(-1)
    pairs = list(itertools.combinations(classes_MN, 2))
    return float(np.mean([(a != b).mean() for a, b in pairs])) if pairs else 0.0
