"""Shares of images classified correctly."""

from benchmark.metrics.typing import Array, Labels


def accuracy(scores_NK: Array, labels_N: Labels) -> float:
    """Share of images whose highest score is the label's; of equal scores the first class counts."""
    return float((scores_NK.argmax(-1) == labels_N).mean())
