"""How members become one prediction. Everything is returned as normalised log-probabilities, stable for any logits."""

import numpy as np
from scipy.special import log_softmax, logsumexp

from benchmark.metrics.typing import Array

POOLINGS = ("prob_mean", "logit_mean")


def pool(logits_MNK: Array, pooling: str) -> Array:
    """log p_NK of the ensemble.

    prob_mean: log 1/M sum_m softmax(z_m), what deep ensembles, BatchEnsemble and MIMO report.
    logit_mean: log softmax(1/M sum_m z_m), a normalised geometric mean; what NFE and MixMo report.
    """
    logits_MNK = logits_MNK.astype(np.float64)
    if pooling == "prob_mean":
        return logsumexp(log_softmax(logits_MNK, axis=-1), axis=0) - np.log(len(logits_MNK))
    if pooling == "logit_mean":
        return log_softmax(logits_MNK.mean(axis=0), axis=-1)
    raise ValueError(f"pooling is one of {POOLINGS}, not {pooling!r}")
