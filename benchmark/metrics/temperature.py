"""Temperature scaling: fitted on validation images, or cross-validated on halves of the test images."""

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from benchmark.metrics.typing import Array, Labels

LOWEST, HIGHEST = 0.05, 20.0
NUM_HALVINGS = 5
MANY_IMAGES = 2000
Indices = npt.NDArray[np.intp]


def scale(log_p_NK: Array, temperature: float) -> Array:
    """Log-probabilities of softmax(log p / T): the pooled prediction is scaled, as in Ashukha et al. 2020."""
    z_NK = log_p_NK * (1 / temperature)
    z_NK -= np.log(np.exp(z_NK) @ np.ones(z_NK.shape[1]))[:, None]  # the highest p is 1/K or more: no underflow
    return z_NK


def fit_temperature(log_p_NK: Array, labels_N: Labels, start: float | None = None) -> float:
    """The temperature from 0.05 to 20 that minimises NLL: argmin_T Σ_n -log softmax(log p_n / T)_label (Guo et al. 2017).

    NLL is convex in β = 1/T, with derivative mean(E_p[log p] - log p_label) and second derivative mean(Var_p[log p]);
    Newton steps inside a shrinking bracket, which ends at a bound where no minimum lies inside. Where NLL is 0 to the
    last digit over a range, any temperature of it. `start` is a guess; without one, of many images every eighth gives it.
    """
    if start is None:
        start = fit_temperature(log_p_NK[::8].copy(), labels_N[::8], 1.0) if len(labels_N) >= MANY_IMAGES else 1.0
    z_NK, ones_K = log_p_NK, np.ones(log_p_NK.shape[1])
    if np.isneginf(z_NK.min()):
        # A label of probability 0 would make NLL infinite for every β; float64's smallest normal number stands for 0.
        z_NK = np.where(np.isneginf(z_NK), np.log(np.finfo(np.float64).tiny), z_NK)
    label_mean = float(np.take_along_axis(z_NK, labels_N[:, None], axis=-1).mean())
    low, high, beta = 1 / HIGHEST, 1 / LOWEST, 1 / start
    p_NK = np.empty_like(z_NK)
    for _ in range(100):
        np.exp(np.multiply(z_NK, beta, out=p_NK), out=p_NK)
        sum_N = p_NK @ ones_K
        mean_N = np.vecdot(p_NK, z_NK) / sum_N
        p_NK *= z_NK
        slope = float(mean_N.mean()) - label_mean
        curvature = float((np.vecdot(p_NK, z_NK) / sum_N - mean_N**2).mean())
        low, high = (beta, high) if slope < 0 else (low, beta)
        step = slope / curvature if curvature > 0 else math.inf
        is_newton = low < beta - step < high
        previous, beta = beta, beta - step if is_newton else (low + high) / 2
        # A Newton step squares the relative error: one of 3e-4 leaves about 1e-7.
        if abs(beta - previous) < (3e-4 if is_newton else 1e-9) * previous:
            break
    return 1 / beta


@lru_cache(maxsize=1)
def halvings(num_images: int) -> tuple[tuple[Indices, Indices], ...]:
    """Five random halvings of the images; of an odd number the second half has one more.

    The same for every run with as many images, so that methods are compared on the same halves.
    """
    random = np.random.default_rng(2020)
    orders = [random.permutation(num_images) for _ in range(NUM_HALVINGS)]
    return tuple((order[: num_images // 2], order[num_images // 2 :]) for order in orders)


def cross_validate(log_p_NK: Array, labels_N: Labels) -> Iterator[tuple[float, Array, Labels]]:
    """Test-time cross-validation (Ashukha et al. 2020): for each of ten halves the temperature fitted on the other
    half, the half's log-probabilities scaled by it, and its labels. Of fewer than two images nothing."""
    temperature = 1.0
    for halves in halvings(len(labels_N)) if len(labels_N) > 1 else ():
        first, second = [(log_p_NK[half], labels_N[half]) for half in halves]
        for fitted, scored in ((first, second), (second, first)):
            temperature = fit_temperature(*fitted, start=temperature)
            yield temperature, scale(scored[0], temperature), scored[1]
