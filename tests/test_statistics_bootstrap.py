"""Comparisons over seeds and test images: against an index loop, and on simulated studies whose truth is known."""

import numpy as np
import pytest

from benchmark.metrics.calibration import ece
from benchmark.statistics import (
    Comparison,
    Resamples,
    compare_ece,
    compare_examples,
    compare_resampled,
)

NUM_STUDIES = 1500
NUM_IMAGES = 150

MIXES = {
    # standard deviations of a run, of an image for the method, and of a run on an image (over √N): the shares in a mean
    "seeds": (1, 0, 0),
    "images": (0, 1, 0),
    "seeds and images": (1, 1, 0),
    "one unstable method": ((1, 0.02), 0.15, 0),
    "runs differ on images": (0.3, 0.5, 1),
}


def simulated(rng: np.random.Generator, num_runs: int, seeds: float, images: float, both: float) -> np.ndarray:
    """losses_SN of a method with the expectation 0."""
    a_S1 = seeds * rng.normal(size=(num_runs, 1))
    per_image = images * rng.normal(size=NUM_IMAGES) + both * rng.normal(size=(num_runs, NUM_IMAGES))
    return a_S1 + np.sqrt(NUM_IMAGES) * per_image


def bound(rate: float, num_studies: int) -> float:
    """What a rate is seen to exceed once in 1,000 times."""
    return rate + 3.1 * np.sqrt(rate * (1 - rate) / num_studies)


@pytest.mark.parametrize("num_runs", [(2, 2), (3, 3), (5, 5), (10, 10), (2, 5)])
@pytest.mark.parametrize("mix", MIXES)
def test_equal_methods_are_not_called_different_too_often(mix: str, num_runs: tuple[int, int]) -> None:
    rng, resamples = np.random.default_rng(1), Resamples(NUM_IMAGES, 150)
    seeds, images, both = MIXES[mix]
    first_seeds, second_seeds = seeds if isinstance(seeds, tuple) else (seeds, seeds)
    called = covered = 0
    for study in range(NUM_STUDIES):
        truth = 0.5 * (study % 2)
        shared_N = np.sqrt(NUM_IMAGES) * rng.normal(size=NUM_IMAGES)
        first_SN = truth + shared_N + simulated(rng, num_runs[0], first_seeds, images, both)
        second_SN = shared_N + simulated(rng, num_runs[1], second_seeds, images, both)
        found = compare_examples(first_SN, second_SN, resamples)
        assert (found.p_value < 0.05) == (abs(found.difference) > found.half_width)
        called += truth == 0 and found.p_value < 0.05
        covered += found.low <= truth <= found.high
    assert called / (NUM_STUDIES // 2) <= bound(0.05, NUM_STUDIES // 2)
    assert 1 - covered / NUM_STUDIES <= bound(0.05, NUM_STUDIES)


@pytest.mark.parametrize("metric", ["accuracy", "ece"])
@pytest.mark.parametrize("num_runs", [2, 5])
def test_equally_accurate_and_calibrated_methods_are_not_called_different(metric: str, num_runs: int) -> None:
    rng, resamples = np.random.default_rng(2), Resamples(NUM_IMAGES, 150)
    called = 0
    for _ in range(800):
        hardness_N = rng.normal(size=NUM_IMAGES)
        methods = []
        for _ in range(2):
            own_SN = 0.3 * rng.normal(size=(num_runs, 1)) + 0.5 * rng.normal(size=(num_runs, NUM_IMAGES))
            confidence_SN = 1 / (1 + np.exp(-1.5 - hardness_N - 0.5 * rng.normal(size=NUM_IMAGES) - own_SN))
            methods.append((confidence_SN, rng.random(confidence_SN.shape) < 0.9 * confidence_SN))
        (_, first_SN), (_, second_SN) = methods
        found = (
            compare_ece(*methods, resamples) if metric == "ece" else compare_examples(first_SN, second_SN, resamples)
        )
        called += found.p_value < 0.05
    assert called / 800 <= bound(0.05, 800)


def test_variances_of_seeds_and_images_are_told_apart() -> None:
    """What seed and image make together scatters over seeds, and is not counted once more among the images."""
    rng, resamples = np.random.default_rng(10), Resamples(NUM_IMAGES, 150)
    scatters = [
        compare_examples(simulated(rng, 3, 0.5, 0.7, 1), simulated(rng, 4, 0.2, 0.7, 0.6), resamples).scatter
        for _ in range(600)
    ]
    assert np.mean([scatter.first for scatter in scatters]) == pytest.approx(0.5**2 + 1, rel=0.12)
    assert np.mean([scatter.second for scatter in scatters]) == pytest.approx(0.2**2 + 0.6**2, rel=0.12)
    assert np.mean([scatter.images for scatter in scatters]) == pytest.approx(2 * 0.7**2, rel=0.05)


def test_interval_narrows_to_what_is_known_with_many_runs() -> None:
    """Of 30 runs a side, the half width is nearly 1.96 standard deviations of the difference."""
    rng, resamples = np.random.default_rng(3), Resamples(NUM_IMAGES)
    half_widths = [
        compare_examples(simulated(rng, 30, 1, 1, 1), simulated(rng, 30, 1, 1, 1), resamples).half_width
        for _ in range(50)
    ]
    assert np.mean(half_widths) == pytest.approx(1.96 * np.sqrt(2 * (1 / 30 + 1 + 1 / 30)), rel=0.05)


def test_resamples_are_those_of_an_index_loop() -> None:
    rng = np.random.default_rng(4)
    resamples = Resamples(1000, num_resamples=200, seed=7)
    losses_SN = 5 + rng.gamma(0.5, size=(3, 1000))
    confidence_SN = rng.beta(5, 1, size=(3, 1000)).astype(np.float32)
    confidence_SN[:, :100] = 1.0
    correct_SN = rng.random((3, 1000)) < confidence_SN
    index_RN = [np.repeat(np.arange(1000), counts_N) for counts_N in resamples.counts]
    assert {len(index_N) for index_N in index_RN} == {1000}

    means = resamples.means(losses_SN)
    looped_RS = np.array([losses_SN[:, index_N].mean(axis=1) for index_N in index_RN])
    np.testing.assert_allclose(means.mean_R + losses_SN.mean(), looped_RS.mean(axis=1), rtol=0, atol=1e-6)
    deviation_RS = looped_RS - looped_RS.mean(axis=1, keepdims=True)
    assert means.interaction == pytest.approx(deviation_RS.var(axis=0, ddof=1).sum() / 2 * 1000 / 999, rel=1e-5)

    eces = resamples.eces(confidence_SN, correct_SN)
    pairs = [list(zip(confidence_SN[:, i].astype(np.float64), correct_SN[:, i], strict=True)) for i in index_RN]
    looped_R = [np.mean([ece(c_N, k_N) for c_N, k_N in pair]) for pair in pairs]
    np.testing.assert_allclose(eces.mean_R, looped_R, rtol=0, atol=1e-6)
    assert eces.values_S.tolist() == [
        ece(c_N.astype(float), k_N) for c_N, k_N in zip(confidence_SN, correct_SN, strict=True)
    ]


def test_resamples_count_every_image_alike() -> None:
    counts_RN = Resamples(500, num_resamples=2000).counts
    # Each count is binomial(500, 1/500); its mean over 2,000 resamples strays from 1 by 0.022.
    assert np.abs(counts_RN.mean(axis=0) - 1).max() < 0.1
    assert counts_RN.var() == pytest.approx(1 - 1 / 500, rel=0.01)
    assert not np.array_equal(counts_RN, Resamples(500, num_resamples=2000, seed=1).counts)


def test_image_part_is_the_variance_of_the_paired_difference() -> None:
    """In closed form: of losses without an interaction, the variance of the difference over images, over N."""
    rng = np.random.default_rng(5)
    first_N, second_N = rng.normal(size=(2, 400))
    runs_S1 = np.array([[0.1], [0.2], [0.4]])
    found = compare_examples(first_N + runs_S1, second_N + runs_S1, Resamples(400, 20_000))
    assert found.scatter.images == pytest.approx((first_N - second_N).var(ddof=1) / 400, rel=0.04)
    assert found.scatter.first == pytest.approx(np.var([0.1, 0.2, 0.4], ddof=1))


def test_comparisons_share_what_was_resampled_and_repeat_to_the_bit() -> None:
    rng = np.random.default_rng(6)
    first_SN, second_SN = rng.random((2, 3, 200))
    resamples = Resamples(200)
    again = compare_resampled(resamples.means(first_SN), resamples.means(second_SN))
    assert again == compare_examples(first_SN, second_SN) == compare_examples(first_SN, second_SN)
    swapped = compare_examples(second_SN, first_SN)
    assert (swapped.difference, swapped.p_value) == (-again.difference, again.p_value)


def test_one_run_has_no_interval() -> None:
    rng = np.random.default_rng(7)
    found = compare_examples(rng.random((1, 50)), rng.random((3, 50)))
    assert (found.half_width, found.p_value, found.low, found.high) == (None, None, None, None)
    assert (found.detectable, found.seeds_needed, found.images_limit) == (None, None, False)
    assert (found.num_first, found.num_second) == (1, 3)


def test_identical_and_deterministic_methods() -> None:
    rng = np.random.default_rng(8)
    losses_SN = rng.random((3, 100))
    same = compare_examples(losses_SN, losses_SN)
    assert (same.difference, same.p_value) == (0.0, 1.0)
    fixed_SN = np.repeat(losses_SN[:1], 2, axis=0)
    shifted = compare_examples(fixed_SN + 0.25, fixed_SN)
    assert (shifted.difference, shifted.half_width, shifted.p_value) == (pytest.approx(0.25), 0.0, 0.0)
    assert compare_examples(fixed_SN, fixed_SN).p_value == 1.0
    assert isinstance(shifted, Comparison)


def test_what_does_not_pair_is_refused() -> None:
    rng = np.random.default_rng(9)
    with pytest.raises(ValueError, match="50 images"):
        compare_examples(rng.random((2, 50)), rng.random((2, 60)))
    with pytest.raises(ValueError, match="same images"):
        compare_resampled(Resamples(50).means(rng.random((2, 50))), Resamples(50, seed=1).means(rng.random((2, 50))))
    with pytest.raises(ValueError, match="finite"):
        compare_examples(np.full((2, 50), np.inf), rng.random((2, 50)))
