"""One run's stored logits -> every metric of its row, and its example file."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from benchmark.metrics import diversity
from benchmark.metrics.accuracy import accuracy, top_k_accuracy
from benchmark.metrics.calibration import ece, ece_adaptive, ece_classwise, mce, nll
from benchmark.metrics.out_of_distribution import DETECTION, entropy, max_probability, mutual_information
from benchmark.metrics.pooling import POOLINGS, Members
from benchmark.metrics.prediction import Prediction
from benchmark.metrics.ranking import levels
from benchmark.metrics.selective import accuracy_at_80, augrc, aurc
from benchmark.metrics.temperature import cross_validate, fit_temperature, scale
from benchmark.metrics.typing import Array, Labels

Scores = dict[str, float]


def score(logits: Mapping[str, Array], labels: Mapping[str, Labels]) -> Scores:
    """Metrics by `split/pooling/metric`, as fractions and nats; what a run can't define is left out.

    `logits` maps splits to logits_MNK: test, validation (may be missing), shifted/<kind>/<severity>,
    out_of_distribution/<name>; `labels` has all but the last. `_calibrated` is under the temperature fitted on
    validation images alone, `_cross_validated` under those fitted on halves of the test images. `shifted` holds the
    means over kinds and severities, `shifted/<severity>` those over kinds, `first/<k>` the first k members.
    """
    members = {split: Members(logits[split]) for split in ("test", "validation") if split in logits}
    scored: Scores = {}
    temperatures: dict[str, float] = {}
    for pooling in POOLINGS:
        if "validation" in members:
            validation = Prediction(members["validation"].pool(pooling), labels["validation"])
            temperatures[pooling] = fit_temperature(validation.log_p_NK, validation.labels_N)
            scored |= _named(f"validation/{pooling}", _basic(validation) | {"temperature": temperatures[pooling]})
        log_p_NK = members["test"].pool(pooling)
        scored |= _named(f"test/{pooling}", _test(log_p_NK, labels["test"], temperatures.get(pooling)))
    scored |= _named("test", _diversity(members["test"], labels["test"]))
    scored |= _ambiguity(members["test"], scored)
    scored |= _sub_ensembles(members, labels)
    shifted: dict[str, Scores] = {}
    for split in logits:  # one set after the other: each is as large as the test images
        if split.startswith("shifted/"):
            shifted[split] = _shifted(Members(logits[split]), labels[split], temperatures)
        elif split.startswith("out_of_distribution/"):
            scored |= _named(split, _detection(members["test"], Members(logits[split]), temperatures))
    scored |= _shift_means(shifted)
    return {name: float(value) for name, value in scored.items() if math.isfinite(value)}


def examples(logits: Mapping[str, Array], labels: Mapping[str, Labels]) -> pd.DataFrame:
    """Per test image its label, and per pooling the predicted class, its probability, the label's probability, NLL and
    Brier score, with validation images also NLL at their temperature. Takes what `score` takes."""
    label_N = labels["test"]
    columns: dict[str, np.ndarray] = {"label": label_N.astype(np.int32)}
    members = {split: Members(logits[split]) for split in ("test", "validation") if split in logits}
    for pooling in POOLINGS:
        prediction = Prediction(members["test"].pool(pooling), label_N)
        values = {
            "confidence": prediction.confidence_N,
            "true": np.exp(-prediction.nll_N),
            "nll": prediction.nll_N,
            "brier": prediction.brier_N,
        }
        if "validation" in members:
            temperature = fit_temperature(members["validation"].pool(pooling), labels["validation"])
            values["nll_calibrated"] = Prediction(scale(prediction.log_p_NK, temperature), label_N).nll_N
        columns[f"{pooling}_class"] = prediction.class_N.astype(np.int32)
        columns |= {f"{pooling}_{name}": value_N.astype(np.float32) for name, value_N in values.items()}
    return pd.DataFrame(columns)


def _named(prefix: str, values: Scores) -> Scores:
    return {f"{prefix}/{name}": value for name, value in values.items()}


def _basic(prediction: Prediction) -> Scores:
    return {
        "accuracy": float(prediction.correct_N.mean()),
        "nll": float(prediction.nll_N.mean()),
        "brier": float(prediction.brier_N.mean()),
        "ece": ece(*prediction.ranked),
    }


def _scalable(prediction: Prediction) -> Scores:
    """What a temperature changes: all but accuracies."""
    return {
        "nll": float(prediction.nll_N.mean()),
        "brier": float(prediction.brier_N.mean()),
        "ece": ece(*prediction.ranked),
        "ece_adaptive": ece_adaptive(*prediction.ranked),
        "ece_classwise": ece_classwise(prediction.p_NK, prediction.labels_N),
        "mce": mce(*prediction.ranked),
        "aurc": aurc(*prediction.ranked),
        "augrc": augrc(*prediction.ranked),
        "accuracy_at_80": accuracy_at_80(*prediction.ranked),
    }


def _test(log_p_NK: Array, labels_N: Labels, temperature: float | None) -> Scores:
    prediction = Prediction(log_p_NK, labels_N)
    scored = {"accuracy": prediction.correct_N.mean(), "top5": top_k_accuracy(log_p_NK, labels_N)}
    scored |= _scalable(prediction)
    if temperature is not None:
        calibrated = _scalable(Prediction(scale(log_p_NK, temperature), labels_N))
        scored |= {f"{name}_calibrated": value for name, value in calibrated.items()}
    halves = [
        _scalable(Prediction(scaled_NK, half_N)) | {"temperature": fitted}
        for fitted, scaled_NK, half_N in cross_validate(log_p_NK, labels_N)
    ]
    return scored | {f"{name}_cross_validated": value for name, value in _mean(halves).items()}


def _diversity(members: Members, labels_N: Labels) -> Scores:
    correct_MN = members.class_MN == labels_N
    alone = _mean([_basic(Prediction(log_p_NK, labels_N)) for log_p_NK in members.log_p])
    return _named("member", alone) | {
        "disagreement": diversity.disagreement(members.class_MN),
        "kl": diversity.kl(members.p_MNK, members.log_p),
        "cosine": diversity.cosine(members.p_MNK),
        "q_statistic": diversity.q_statistic(correct_MN),
        "double_fault": diversity.double_fault(correct_MN),
        "ratio_error": diversity.ratio_error(correct_MN),
    }


def _ambiguity(members: Members, scored: Scores) -> Scores:
    """Ensemble loss = mean member loss - ambiguity. Of one member it is 0, whatever rounding says."""
    losses = [("prob_mean", "nll"), ("logit_mean", "nll"), ("prob_mean", "brier")]
    return {
        f"test/{pooling}/ambiguity_{loss}": diversity.ambiguity(
            scored[f"test/member/{loss}"], scored[f"test/{pooling}/{loss}"]
        )
        if len(members.logits_MNK) > 1
        else 0.0
        for pooling, loss in losses
    }


def _sub_ensembles(members: Mapping[str, Members], labels: Mapping[str, Labels]) -> Scores:
    """Of the first k members, for every k below their number: what a curve over ensemble sizes needs."""
    scored: Scores = {}
    values: Scores = {}
    for k in range(1, len(members["test"].logits_MNK)):
        for pooling in POOLINGS:
            if k > 1 or not values:  # one member is the same under every pooling
                values = _sub_ensemble({split: each.pool(pooling, first=k) for split, each in members.items()}, labels)
            scored |= _named(f"first/{k}/{pooling}", values)
    return scored


def _sub_ensemble(log_p: Mapping[str, Array], labels: Mapping[str, Labels]) -> Scores:
    scored = {"accuracy": accuracy(log_p["test"], labels["test"]), "nll": nll(log_p["test"], labels["test"])}
    if "validation" in log_p:
        temperature = fit_temperature(log_p["validation"], labels["validation"])
        scored["nll_calibrated"] = nll(scale(log_p["test"], temperature), labels["test"])
    halves = [nll(scaled_NK, half_N) for _, scaled_NK, half_N in cross_validate(log_p["test"], labels["test"])]
    return scored | ({"nll_cross_validated": float(np.mean(halves))} if halves else {})


def _shifted(members: Members, labels_N: Labels, temperatures: Mapping[str, float]) -> Scores:
    """One corrupted set, by pooling/metric."""
    scored: Scores = {}
    for pooling in POOLINGS:
        prediction = Prediction(members.pool(pooling), labels_N)
        values = _basic(prediction) | {"aurc": aurc(*prediction.ranked)}
        if pooling in temperatures:
            calibrated = _basic(Prediction(scale(prediction.log_p_NK, temperatures[pooling]), labels_N))
            values |= {f"{name}_calibrated": calibrated[name] for name in ("nll", "brier", "ece")}
        scored |= _named(pooling, values)
    return scored


def _shift_means(shifted: Mapping[str, Scores]) -> Scores:
    """Means of each metric over corrupted sets: over all of them, and per severity."""
    groups = {"shifted": list(shifted.values())} if shifted else {}
    for split, values in shifted.items():
        groups.setdefault(f"shifted/{split.rpartition('/')[2]}", []).append(values)
    scored: Scores = {}
    for name, sets in groups.items():
        scored |= _named(name, _mean(sets))
    return scored


def _detection(inside: Members, outside: Members, temperatures: Mapping[str, float]) -> Scores:
    """How well each score tells test images from those of one other set, by pooling/metric."""
    scored: Scores = {}
    for pooling in POOLINGS:
        log_p = inside.pool(pooling), outside.pool(pooling)
        pairs = {"": map(max_probability, log_p), "_entropy": (-entropy(a) for a in log_p)}
        if pooling == "prob_mean":
            members = zip(log_p, (inside, outside), strict=True)
            pairs["_mutual_information"] = (-mutual_information(a, m.entropy_MN) for a, m in members)
        if pooling in temperatures:
            scaled = [scale(log_p_NK, temperatures[pooling]) for log_p_NK in log_p]
            pairs |= {
                "_calibrated": map(max_probability, scaled),
                "_entropy_calibrated": (-entropy(a) for a in scaled),
            }
        for suffix, scores in pairs.items():
            in_N, out_N = levels(*scores)
            scored |= {f"{pooling}/{name}{suffix}": metric(in_N, out_N) for name, metric in DETECTION.items()}
    return scored


def _mean(values: list[Scores]) -> Scores:
    """Mean of each name, where there are any values."""
    return {name: float(np.mean([each[name] for each in values])) for name in values[0]} if values else {}
