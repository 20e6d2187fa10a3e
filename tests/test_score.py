"""One run's logits to its row: what is scored on what, and that nothing is fitted on test images."""

import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp, softmax

from benchmark.metrics.score import examples, score
from benchmark.metrics.temperature import fit_temperature, halvings
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


def test_without_validation_images_nothing_is_scaled_by_their_temperature(
    logits: dict[str, Array], labels: dict[str, Labels]
) -> None:
    whole = score(logits, labels)
    del logits["validation"], labels["validation"]
    scored = score(logits, labels)
    gone = {key for key in whole if key.endswith("_calibrated") or key.startswith("validation/")}
    assert scored == {key: value for key, value in whole.items() if key not in gone}
    assert "first/2/prob_mean/nll_cross_validated" in scored
    assert "prob_mean_nll_calibrated" not in examples(logits, labels)


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
    frame, scored = examples(logits, labels), score(logits, labels)
    assert list(frame["label"]) == list(labels["test"])
    assert set(frame.dtypes.astype(str)) == {"int32", "float32"}
    p_NK = softmax(logits["test"].astype(np.float64).mean(0), -1)
    for n, row in enumerate(frame.itertuples()):
        assert row.logit_mean_class == p_NK[n].argmax()
        assert row.logit_mean_confidence == pytest.approx(p_NK[n].max())
        assert row.logit_mean_true == pytest.approx(p_NK[n, labels["test"][n]])
        assert row.logit_mean_nll == pytest.approx(-np.log(p_NK[n, labels["test"][n]]), rel=1e-6)
    for pooling in ("prob_mean", "logit_mean"):
        for metric in ("nll", "brier", "nll_calibrated"):
            assert frame[f"{pooling}_{metric}"].mean() == pytest.approx(scored[f"test/{pooling}/{metric}"], rel=1e-5)
        hits = frame[f"{pooling}_class"] == frame["label"]
        assert hits.mean() == pytest.approx(scored[f"test/{pooling}/accuracy"])


SCALABLE = ("nll", "brier", "ece", "ece_adaptive", "ece_classwise", "mce", "aurc", "augrc", "accuracy_at_80")


def expected_names() -> set[str]:
    names = {f"test/{name}" for name in ("disagreement", "kl", "cosine", "q_statistic", "double_fault", "ratio_error")}
    names |= {f"test/member/{name}" for name in ("accuracy", "nll", "brier", "ece")}
    names |= {"test/prob_mean/ambiguity_brier"}
    detection = {
        f"{name}{score}{variant}"
        for name in ("auroc", "aupr", "fpr95")
        for score in ("", "_entropy")
        for variant in ("", "_calibrated")
    }
    names |= {f"out_of_distribution/other/prob_mean/{m}_mutual_information" for m in ("auroc", "aupr", "fpr95")}
    shifted = {"accuracy", "nll", "brier", "ece", "aurc", "nll_calibrated", "brier_calibrated", "ece_calibrated"}
    for pooling in ("prob_mean", "logit_mean"):
        test = {"accuracy", "top5", "ambiguity_nll", "temperature_cross_validated"}
        test |= {f"{name}{variant}" for name in SCALABLE for variant in ("", "_calibrated", "_cross_validated")}
        names |= {f"test/{pooling}/{name}" for name in test}
        names |= {f"validation/{pooling}/{name}" for name in ("accuracy", "nll", "brier", "ece", "temperature")}
        names |= {f"out_of_distribution/other/{pooling}/{name}" for name in detection}
        names |= {f"{split}/{pooling}/{name}" for split in ("shifted", "shifted/1", "shifted/5") for name in shifted}
        first = ("accuracy", "nll", "nll_calibrated", "nll_cross_validated")
        names |= {f"first/{k}/{pooling}/{name}" for k in (1, 2) for name in first}
    return names


def test_a_row_has_these_metrics_and_no_others(logits: dict[str, Array], labels: dict[str, Labels]) -> None:
    scored = score(logits, labels)
    assert set(scored) == expected_names()
    assert {type(value) for value in scored.values()} == {float}


def test_cross_validated_scores_are_means_over_ten_halves(logits: dict[str, Array], labels: dict[str, Labels]) -> None:
    scored = score(logits, labels)
    log_p_NK = log_softmax(logits["test"].astype(np.float64).mean(0), -1)
    nlls, briers, temperatures = [], [], []
    for halves in halvings(SIZES["test"]):
        for fitted, scored_on in (halves, halves[::-1]):
            temperature = fit_temperature(log_p_NK[fitted], labels["test"][fitted])
            p_NK = softmax(log_p_NK[scored_on] / temperature, -1)
            temperatures.append(temperature)
            nlls.append(nll_by_hand(p_NK, labels["test"][scored_on]))
            briers.append(((p_NK - np.eye(K)[labels["test"][scored_on]]) ** 2).sum(-1).mean())
    assert scored["test/logit_mean/nll_cross_validated"] == pytest.approx(np.mean(nlls), rel=1e-4)
    assert scored["test/logit_mean/brier_cross_validated"] == pytest.approx(np.mean(briers), rel=1e-4)
    assert scored["test/logit_mean/temperature_cross_validated"] == pytest.approx(np.mean(temperatures), rel=1e-4)


def test_sub_ensembles_score_like_runs_of_fewer_members(logits: dict[str, Array], labels: dict[str, Labels]) -> None:
    scored = score(logits, labels)
    for k in (1, 2):
        smaller = score({split: array[:k] for split, array in logits.items()}, labels)
        for pooling in ("prob_mean", "logit_mean"):
            for metric in ("accuracy", "nll", "nll_calibrated", "nll_cross_validated"):
                expected = smaller[f"test/{pooling}/{metric}"]
                assert scored[f"first/{k}/{pooling}/{metric}"] == pytest.approx(expected, rel=1e-6)


def test_ensemble_loss_is_mean_member_loss_minus_ambiguity(logits: dict[str, Array], labels: dict[str, Labels]) -> None:
    scored = score(logits, labels)
    for pooling, loss in (("prob_mean", "nll"), ("logit_mean", "nll"), ("prob_mean", "brier")):
        ambiguity = scored[f"test/{pooling}/ambiguity_{loss}"]
        assert ambiguity > 0
        assert scored[f"test/{pooling}/{loss}"] == pytest.approx(scored[f"test/member/{loss}"] - ambiguity)


def test_one_member_lacks_what_needs_two(logits: dict[str, Array], labels: dict[str, Labels]) -> None:
    scored = score({split: array[:1] for split, array in logits.items()}, labels)
    missing = {"test/q_statistic", "test/double_fault", "test/ratio_error"}
    assert set(scored) == {name for name in expected_names() - missing if not name.startswith("first/")}
    zero = [name for name in scored if "ambiguity" in name or name in ("test/disagreement", "test/kl")]
    assert len(zero) == 5
    assert {scored[name] for name in zero} == {0.0}
    assert scored["test/cosine"] == 1.0
    assert scored["out_of_distribution/other/prob_mean/auroc_mutual_information"] == 0.5


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("scale", [0.0, 1e-3, 300.0, 6e4])
def test_flat_and_saturated_logits_have_finite_scores(
    logits: dict[str, Array], labels: dict[str, Labels], scale: float, dtype: type
) -> None:
    hard = {split: np.clip(scale * array, -6e4, 6e4).astype(dtype) for split, array in logits.items()}
    scored = score(hard, labels)
    undefined = {"test/q_statistic", "test/ratio_error"}
    assert expected_names() - set(scored) <= undefined
    for name, value in scored.items():
        if name.rpartition("/")[2].startswith(("accuracy", "ece", "mce", "aur", "aupr", "fpr95", "top5", "double")):
            assert -1e-12 <= value <= 1 + 1e-12, name
    assert np.isfinite(examples(hard, labels).to_numpy()).all()


@pytest.mark.parametrize(("num_images", "num_classes"), [(1, 2), (2, 2), (3, 7)])
def test_the_smallest_test_sets_have_scores(num_images: int, num_classes: int) -> None:
    rng = np.random.default_rng(0)
    sizes = {"test": num_images, "validation": num_images, "out_of_distribution/other": 1}
    logits = {split: rng.normal(size=(2, size, num_classes)).astype(np.float32) for split, size in sizes.items()}
    labels = {split: np.zeros(num_images, dtype=np.int64) for split in ("test", "validation")}
    scored = score(logits, labels)
    assert {f"test/prob_mean/{name}{variant}" for name in SCALABLE for variant in ("", "_calibrated")} <= set(scored)
    assert ("test/prob_mean/nll_cross_validated" in scored) == (num_images > 1)
    assert len(examples(logits, labels)) == num_images


def test_the_order_of_images_decides_nothing_but_the_halves(
    logits: dict[str, Array], labels: dict[str, Labels]
) -> None:
    coarse = {split: array.round() for split, array in logits.items()}  # many images of equal confidence
    scored = score(coarse, labels)
    order = np.random.default_rng(5).permutation(SIZES["test"])
    shuffled = {split: a[:, order] if a.shape[1] == len(order) else a for split, a in coarse.items()}
    again = score(shuffled, {split: a[order] if len(a) == len(order) else a for split, a in labels.items()})
    for name, value in again.items():
        if not name.endswith("_cross_validated"):
            assert value == pytest.approx(scored[name], rel=1e-9, abs=1e-12), name


def test_the_order_of_members_decides_nothing() -> None:
    """Of logits of few values many images are equally sure and many votes even, up to rounding."""
    rng = np.random.default_rng(5)
    logits = {split: rng.integers(0, 3, (4, size, K)).astype(np.float16) for split, size in SIZES.items()}
    labels = {split: rng.integers(0, K, SIZES[split]) for split in SIZES if not split.startswith("out_of")}
    scored = score(logits, labels)
    turned = score({split: logits_MNK[[2, 0, 3, 1]] for split, logits_MNK in logits.items()}, labels)
    for name, value in scored.items():
        if not name.startswith("first/"):
            assert turned[name] == pytest.approx(value, abs=1e-6), name


def test_a_network_that_has_learnt_nothing_of_many_classes_has_scores() -> None:
    """Every probability is in the first of 15 bins."""
    scored = score({"test": np.zeros((2, 30, 20), np.float32)}, {"test": np.arange(30) % 20})
    assert scored["test/prob_mean/ece"] == pytest.approx(abs(2 / 30 - 1 / 20))
    assert scored["test/prob_mean/ece_classwise"] == pytest.approx(
        (10 * (2 / 30 - 1 / 20) + 10 * (1 / 20 - 1 / 30)) / 20
    )
