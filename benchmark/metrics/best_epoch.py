"""What choosing the epoch on test images would gain: the size of a fault, never a way to choose a model."""

from collections.abc import Sequence
from typing import Any


def best_epoch_gains(history: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The best test accuracy among the epochs of the last stage minus that of the last epoch; empty where none was watched.

    It is what the released code of NFE (hjdw2/NFE:train_exit12.py:188-205) and MixMo (alexrame/mixmo-pytorch:
    mixmo/learners/abstract_learner.py:138-166) adds to a result.
    """
    epochs = [entry for entry in history if entry["stage"] == history[-1]["stage"]]
    names = [name for name in history[-1] if name.startswith("test/")] if history else []
    return {
        name.replace("/accuracy", "/best_epoch_gain"): max(epoch[name] for epoch in epochs) - epochs[-1][name]
        for name in names
    }
