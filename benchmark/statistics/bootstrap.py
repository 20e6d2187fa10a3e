"""Two methods compared over seeds and test images: a two-level bootstrap.

Of S runs on N images, run s has the loss a_s + b_n + c_sn on image n, up to a constant: a and c are new in every run, b
is the image's own. The truth that is asked for is the expectation over seeds and images. Methods share the images, so
both are resampled on the same ones; run i of one has nothing to do with run i of the other.

Images: R times N images are drawn with replacement, and each run's metric is taken on them. The variance over resamples
of the difference of methods (means over runs), times N / (N - 1), estimates (Var b + Var c / S) / N with N - 1 degrees
of freedom, R being finite costs some: 1 / (1 / (N - 1) + 1 / (R - 1)).

Seeds: endless draws of S runs out of S have a mean of variance s² / S · (S - 1) / S, with s² the unbiased variance of
the runs' metrics; times S / (S - 1), as the draws deviate too little from a sample that fits itself, that is s² / S,
which needs no draws. It estimates (Var a + Var c / N) / S with S - 1 degrees of freedom, for each method.

Both hold the part c once. The variance over resamples of the runs' deviations from their mean is that part, and it is
taken off the images', where it is known well. comparison.py makes the interval of the three parts.
"""

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from benchmark.metrics.calibration import ECE_BINS, ece, equal_width_bins
from benchmark.statistics.comparison import Array, Comparison, Scatter, judge, mean_of, variance_of

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 1 << 18
"""Counts that are handled at a time, about: they stay in the processor's cache."""

ROUNDING = 1e-10
"""A variance that is a smaller share of those it is the difference of is rounding."""


@dataclass(frozen=True)
class Resampled:
    """A metric of one method's runs, on all images and on resampled ones. Serves all comparisons of the method."""

    values_S: Array
    mean_R: Array
    """The mean over runs on each resample."""
    interaction: float
    """The variance of one run's metric by what seed and image make together: Var c / N."""
    resamples: "Resamples"


@dataclass(frozen=True)
class Resamples:
    """Test images drawn with replacement, for all methods of a task: the same seed draws the same images."""

    num_images: int
    num_resamples: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_images < 2 or self.num_resamples < 2:
            raise ValueError(f"a bootstrap takes two images and resamples or more, got {self}")

    @functools.cached_property
    def counts(self) -> npt.NDArray[np.uint8]:
        """How often each image was drawn, (R, N), one byte each."""
        random = np.random.default_rng(self.seed)
        counts_RN = np.empty((self.num_resamples, self.num_images), dtype=np.uint8)
        for counts_N in counts_RN:  # one after the other: its counts stay in the processor's cache
            drawn_N = random.integers(0, self.num_images, self.num_images, dtype=np.int32)
            counts_N[:] = np.bincount(drawn_N, minlength=self.num_images)
        return counts_RN

    def means(self, losses_SN: npt.ArrayLike) -> Resampled:
        """A metric that is a mean over images: losses of S runs on the N images, finite."""
        losses_SN = np.asarray(losses_SN)
        means_S = losses_SN.mean(axis=1, dtype=np.float64)
        self._check(losses_SN, means_S)
        # Deviations from the mean: their sums are small, and float32 holds them to a part in 10⁷ of the spread.
        sums_RS = self._sums((losses_SN - means_S[:, None]).astype(np.float32))
        return self._resampled(means_S, sums_RS / self.num_images)

    def eces(self, confidence_SN: npt.ArrayLike, correct_SN: npt.ArrayLike) -> Resampled:
        """The expected calibration error of metrics.calibration, by the sums of its bins.

        A resample is one of N images, whose ECE is a little higher than that of all images; a method's variance is
        taken around its mean over resamples, so that this does not matter.
        """
        confidence_SN, correct_SN = np.asarray(confidence_SN, dtype=np.float64), np.asarray(correct_SN)
        eces_S = np.array([ece(c_N, k_N) for c_N, k_N in zip(confidence_SN, correct_SN, strict=True)])
        self._check(confidence_SN, eces_S)
        bins_SN = equal_width_bins(confidence_SN, ECE_BINS) + ECE_BINS * np.arange(len(eces_S))[:, None]
        held, column_SN = np.unique(bins_SN, return_inverse=True)
        gap_CN = np.zeros((len(held), self.num_images), dtype=np.float32)  # a row for each bin that a run has images in
        gap_CN[column_SN.reshape(bins_SN.shape), np.arange(self.num_images)] = correct_SN - confidence_SN
        starts_S = np.searchsorted(held, ECE_BINS * np.arange(len(eces_S)))
        ece_RS = np.add.reduceat(np.abs(self._sums(gap_CN)), starts_S, axis=1) / self.num_images
        return self._resampled(eces_S, ece_RS)

    def _sums(self, values_CN: npt.NDArray[np.float32]) -> Array:
        """Sums over each resample, (R, C). float32 sums of N values: off by about 10⁻⁷ √N times their spread."""
        values_NC = np.ascontiguousarray(values_CN.T)
        parts = [self.counts[rows].astype(np.float32) @ values_NC for rows in self._blocks()]
        return np.concatenate(parts).astype(np.float64)

    def _blocks(self) -> "Iterator[slice]":
        step = max(8, BLOCK // self.num_images)
        return (slice(start, start + step) for start in range(0, self.num_resamples, step))

    def _check(self, losses_SN: npt.NDArray[np.generic], values_S: Array) -> None:
        if losses_SN.ndim != 2 or losses_SN.shape[1] != self.num_images:
            raise ValueError(f"resamples are of {self.num_images} images, the losses have the shape {losses_SN.shape}")
        if not len(values_S) or not np.isfinite(values_S).all():
            raise ValueError(f"a comparison takes finite losses of one run or more, their means are {values_S}")

    def _resampled(self, values_S: Array, resampled_RS: Array) -> Resampled:
        mean_R = resampled_RS.mean(axis=1)
        interaction = 0.0
        if len(values_S) > 1:
            variance_S = (resampled_RS - mean_R[:, None]).var(axis=0, ddof=1)
            interaction = float(variance_S.sum() / (len(values_S) - 1)) * self.inflation
        return Resampled(values_S, mean_R, interaction, self)

    @property
    def inflation(self) -> float:
        """N / (N - 1): resamples deviate from the images' mean, which deviates from the truth itself."""
        return self.num_images / (self.num_images - 1)


def compare_examples(
    first_SN: npt.ArrayLike, second_SN: npt.ArrayLike, resamples: Resamples | None = None
) -> Comparison:
    """Two methods by a loss of each run on each test image that is averaged: accuracy as 0 and 1, NLL, Brier score."""
    resamples = resamples or Resamples(np.shape(first_SN)[-1])
    return compare_resampled(resamples.means(first_SN), resamples.means(second_SN))


def compare_ece(
    first: tuple[npt.ArrayLike, npt.ArrayLike],
    second: tuple[npt.ArrayLike, npt.ArrayLike],
    resamples: Resamples | None = None,
) -> Comparison:
    """Two methods by their expected calibration error: for each confidence_SN and correct_SN.

    The truth is the expectation for as many images, as ECE falls with the number of images.
    """
    resamples = resamples or Resamples(np.shape(first[0])[-1])
    return compare_resampled(resamples.eces(*first), resamples.eces(*second))


def compare_resampled(first: Resampled, second: Resampled) -> Comparison:
    """As compare_examples, of what was resampled once and serves several comparisons."""
    resamples, num_first, num_second = first.resamples, len(first.values_S), len(second.values_S)
    if resamples != second.resamples:
        raise ValueError(f"not resampled on the same images: {resamples} and {second.resamples}")
    difference = mean_of(first.values_S) - mean_of(second.values_S)
    if min(num_first, num_second) < 2:
        return Comparison(difference, None, None, num_first, num_second)
    images = float(resamples.inflation * (first.mean_R - second.mean_R).var(ddof=1))
    images -= first.interaction / num_first + second.interaction / num_second
    if images <= ROUNDING * (first.mean_R.var() + second.mean_R.var()):
        images = 0.0
    freedom = 1 / (1 / (resamples.num_images - 1) + 1 / (resamples.num_resamples - 1))
    scatter = Scatter(variance_of(first.values_S), variance_of(second.values_S), images, freedom)
    return judge(difference, scatter, num_first, num_second)
