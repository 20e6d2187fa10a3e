"""One run's logits to its row: what is scored on what, and that nothing is fitted on test images."""

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from benchmark.metrics.score import examples, score
from benchmark.metrics.typing import Array, Labels

M, K = 3, 4
SIZES = {
    "test": 60,
    "validation": 40,
    "shifted/blur/1": 60,
    "shifted/blur/5": 60,
    "shifted/fog/1": 60,
    "shifted/fog/5": 60,
    "out_of_distribution/other": 50,
}


@pytest.fixture
def logits() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {split: (rng.normal(size=(M, size, K)) * 3).astype(np.float32) for split, size in SIZES.items()}


@pytest.fixture
def labels(logits: dict[str, Array]) -> dict[str, Labels]:
    """Of every split with labels: the ensemble is right on half of the images and by chance on others."""
    rng = np.random.default_rng(1)
    right = {split: logits[split].mean(0).argmax(-1) for split in ("test", "validation")}
    own = {split: np.where(rng.random(len(a)) < 0.5, a, rng.integers(0, K, len(a))) for split, a in right.items()}
    return {
        split: own["validation" if split == "validation" else "test"]
        for split in SIZES
        if not split.startswith("out_of_distribution")
    }


def nll_by_hand(p_NK: Array, labels_N: Labels) -> float:
    return float(np.mean([-np.log(p_K[label]) for p_K, label in zip(p_NK, labels_N, strict=True)]))


def test_both_poolings_have_their_columns(logits: dict[str, Array], labels: dict[str, Labels]) -> None:
    scored = score(logits, labels)
    z_MNK = logits["test"].astype(np.float64)
    pooled = {"prob_mean": softmax(z_MNK, -1).mean(0), "logit_mean": softmax(z_MNK.mean(0), -1)}
    for pooling, p_NK in pooled.items():
        assert scored[f"test/{pooling}/nll"] == pytest.approx(nll_by_hand(p_NK, labels["test"]))
        assert scored[f"test/{pooling}/accuracy"] == np.mean(p_NK.argmax(-1) == labels["test"])
        squared = ((p_NK - np.eye(K)[labels["test"]]) ** 2).sum(-1)
        assert scored[f"test/{pooling}/brier"] == pytest.approx(squared.mean())
        for metric in ("nll", "brier", "ece"):
            assert f"test/{pooling}/{metric}_calibrated" in scored
    assert scored["test/prob_mean/nll"] != scored["test/logit_mean/nll"]


def test_calibrated_scores_divide_the_pooled_log_probabilities_by_validations_temperature(
    logits: dict[str, Array], labels: dict[str, Labels]
) -> None:
    scored = score(logits, labels)
    z_MNK = logits["test"].astype(np.float64)
    log_p_NK = logsumexp(log_softmax(z_MNK, -1), axis=0) - np.log(M)
    scaled_NK = softmax(log_p_NK / scored["validation/prob_mean/temperature"], -1)
    assert scored["test/prob_mean/nll_calibrated"] == pytest.approx(nll_by_hand(scaled_NK, labels["test"]))


def test_temperature_is_fitted_on_validation_images_alone(logits: dict[str, Array], labels: dict[str, Labels]) -> None:
    scored = score(logits, labels)
    others = {split: array if split == "validation" else array[:, ::-1] * 7 for split, array in logits.items()}
    other_labels = {split: a if split == "validation" else (a + 1) % K for split, a in labels.items()}
    changed = score(others, other_labels)
    sharper = score(logits | {"validation": logits["validation"] * 3}, labels)
    for pooling in ("prob_mean", "logit_mean"):
        key = f"validation/{pooling}/temperature"
        assert changed[key] == scored[key]
        assert changed[f"test/{pooling}/nll"] != scored[f"test/{pooling}/nll"]
        assert sharper[key] > scored[key]
        assert sharper[f"test/{pooling}/nll"] == scored[f"test/{pooling}/nll"]
        assert sharper[f"test/{pooling}/nll_calibrated"] != scored[f"test/{pooling}/nll_calibrated"]


def test_without_validation_images_nothing_is_calibrated(logits: dict[str, Array], labels: dict[str, Labels]) -> None:
    del logits["validation"], labels["validation"]
    scored = score(logits, labels)
    assert not [key for key in scored if "calibrated" in key or "temperature" in key]
    assert "test/prob_mean/nll" in scored


def test_shifted_scores_are_means_over_kinds_and_severities(
    logits: dict[str, Array], labels: dict[str, Labels]
) -> None:
    scored = score(logits, labels)
    by_set = {}
    for split in ("blur/1", "blur/5", "fog/1", "fog/5"):
        p_NK = softmax(logits[f"shifted/{split}"].astype(np.float64), -1).mean(0)
        by_set[split] = nll_by_hand(p_NK, labels["test"])
    assert scored["shifted/prob_mean/nll"] == pytest.approx(np.mean(list(by_set.values())))
    assert scored["shifted/1/prob_mean/nll"] == pytest.approx((by_set["blur/1"] + by_set["fog/1"]) / 2)
    assert scored["shifted/5/prob_mean/nll"] == pytest.approx((by_set["blur/5"] + by_set["fog/5"]) / 2)
    assert not [key for key in scored if "blur" in key or "fog" in key]


def test_members_and_their_disagreement(logits: dict[str, Array], labels: dict[str, Labels]) -> None:
    scored = score(logits, labels)
    z_MNK = logits["test"].astype(np.float64)
    of_members = [nll_by_hand(softmax(z_NK, -1), labels["test"]) for z_NK in z_MNK]
    assert scored["test/member/nll"] == pytest.approx(np.mean(of_members))
    classes_MN = z_MNK.argmax(-1)
    assert scored["test/member/accuracy"] == pytest.approx(np.mean(classes_MN == labels["test"]))
    differing = [np.mean(classes_MN[i] != classes_MN[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert scored["test/disagreement"] == pytest.approx(np.mean(differing))


def test_detection_compares_the_highest_probability(logits: dict[str, Array], labels: dict[str, Labels]) -> None:
    scored = score(logits, labels)
    inside, outside = (
        softmax(logits[split].astype(np.float64).mean(0), -1).max(-1) for split in ("test", "out_of_distribution/other")
    )
    wins = np.mean([[float(i > o) + 0.5 * float(i == o) for o in outside] for i in inside])
    assert scored["out_of_distribution/other/logit_mean/auroc"] == pytest.approx(wins)


def test_one_member_scores_alike_under_both_poolings(logits: dict[str, Array], labels: dict[str, Labels]) -> None:
    scored = score({split: array[:1] for split, array in logits.items()}, labels)
    for metric in ("accuracy", "nll", "brier", "ece", "nll_calibrated"):
        assert scored[f"test/prob_mean/{metric}"] == pytest.approx(scored[f"test/logit_mean/{metric}"])
    assert scored["test/disagreement"] == 0.0
    assert scored["test/member/nll"] == pytest.approx(scored["test/prob_mean/nll"])


def test_examples_hold_each_images_prediction(logits: dict[str, Array], labels: dict[str, Labels]) -> None:
    frame = examples(logits["test"], labels["test"])
    assert list(frame["label"]) == list(labels["test"])
    p_NK = softmax(logits["test"].astype(np.float64).mean(0), -1)
    for n, row in enumerate(frame.itertuples()):
        assert row.logit_mean_class == p_NK[n].argmax()
        assert row.logit_mean_confidence == pytest.approx(p_NK[n].max())
        assert row.logit_mean_true == pytest.approx(p_NK[n, labels["test"][n]])
