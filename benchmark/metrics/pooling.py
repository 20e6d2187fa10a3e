"""How members become one prediction. Everything is computed in float64, and stable for any finite logits."""

from functools import cached_property

import numpy as np
from scipy.special import logsumexp

from benchmark.metrics.typing import Array

POOLINGS = ("prob_mean", "logit_mean")


class Members:
    """What the members of an ensemble predict, from logits_MNK of any precision.

    class_MN: predicted classes; of equal logits the first. p_MNK: probabilities. entropy_MN: their entropies in nats.
    """

    def __init__(self, logits_MNK: Array):
        self.logits_MNK = logits_MNK
        num_members, num_images, num_classes = logits_MNK.shape
        self.class_MN = np.empty((num_members, num_images), dtype=np.intp)
        self.p_MNK = np.empty(logits_MNK.shape)
        self.entropy_MN, self._highest_MN, self._log_sum_MN = np.empty((3, num_members, num_images))
        z_NK = np.empty((num_images, num_classes))  # used by each member: new memory costs more than the arithmetic
        for m, p_NK in enumerate(self.p_MNK):
            z_NK[:] = logits_MNK[m]
            self.class_MN[m] = z_NK.argmax(axis=-1)
            self._highest_MN[m] = np.take_along_axis(z_NK, self.class_MN[m, :, None], axis=-1)[:, 0]
            z_NK -= self._highest_MN[m, :, None]
            np.exp(z_NK, out=p_NK)
            sum_N = p_NK @ np.ones(num_classes)
            self._log_sum_MN[m] = np.log(sum_N)
            self.entropy_MN[m] = self._log_sum_MN[m] - np.vecdot(p_NK, z_NK) / sum_N
            p_NK /= sum_N[:, None]

    @cached_property
    def log_p(self) -> Array:
        """log p_MNK."""
        log_p_MNK = self.logits_MNK - self._highest_MN[..., None]
        log_p_MNK -= self._log_sum_MN[..., None]
        return log_p_MNK

    def pool(self, pooling: str, first: int | None = None) -> Array:
        """Normalised log p_NK of the ensemble, or of its first members.

        prob_mean: log 1/M sum_m softmax(z_m), what deep ensembles, BatchEnsemble and MIMO report.
        logit_mean: log softmax(1/M sum_m z_m), a normalised geometric mean; what NFE and MixMo report.
        """
        if pooling == "prob_mean":
            p_NK = self.p_MNK[:first].mean(axis=0)
            lost_NK = p_NK < np.finfo(np.float64).tiny  # too small for a probability, not for its logarithm
            if not lost_NK.any():
                return np.log(p_NK, out=p_NK)
            log_p_NK = np.log(p_NK, where=~lost_NK, out=p_NK)
            log_p_MX = self.log_p[:first, lost_NK]
            log_p_NK[lost_NK] = logsumexp(log_p_MX, axis=0) - np.log(len(log_p_MX))
            return log_p_NK
        if pooling == "logit_mean":
            mean_NK = np.zeros(self.logits_MNK.shape[1:])
            for logits_NK in self.logits_MNK[:first]:
                mean_NK += logits_NK
            mean_NK /= len(self.logits_MNK[:first])
            return normalise(mean_NK)
        raise ValueError(f"pooling is one of {POOLINGS}, not {pooling!r}")


def pool(logits_MNK: Array, pooling: str) -> Array:
    """log p_NK of the ensemble under one pooling; see Members.pool."""
    return Members(logits_MNK).pool(pooling)


def normalise(z_NK: Array) -> Array:
    """log softmax(z), written over z."""
    z_NK -= z_NK.max(axis=-1, keepdims=True)
    z_NK -= np.log(np.exp(z_NK) @ np.ones(z_NK.shape[1]))[:, None]
    return z_NK
