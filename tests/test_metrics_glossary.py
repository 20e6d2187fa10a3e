"""What the report's glossary says of metrics, held against the rows and the functions."""

import re

import numpy as np
from predictions import random_members

from benchmark.metrics import calibration, diversity, out_of_distribution, selective
from benchmark.metrics.accuracy import top_k_accuracy
from benchmark.metrics.score import score
from benchmark.metrics.temperature import fit_temperature
from benchmark.report.quantities import QUANTITIES, quantity_of


def scored_names() -> list[str]:
    splits = ("test", "validation", "shifted/blur/1", "out_of_distribution/other")
    predicted = {split: random_members(3, 60, 4, seed) for seed, split in enumerate(splits)}
    return list(
        score(
            {split: logits_MNK for split, (logits_MNK, _) in predicted.items()},
            {split: labels_N for split, (_, labels_N) in predicted.items() if split != splits[-1]},
        )
    )


def test_every_metric_has_a_meaning_a_formula_and_a_title_of_its_own() -> None:
    names = {name.rpartition("/")[2]: quantity_of(name) for name in scored_names()}
    assert len(names) > 50
    assert not [name for name, quantity in names.items() if not (quantity.meaning and quantity.formula)]
    assert len({quantity.title for quantity in names.values()}) == len(names)


def test_variants_are_shown_like_what_they_are_variants_of() -> None:
    for variant in ("calibrated", "cross_validated", "entropy", "mutual_information", "entropy_calibrated"):
        for base in ("nll", "ece", "temperature", "auroc", "fpr95"):
            if f"{base}_{variant}" in QUANTITIES:
                quantity, of = QUANTITIES[f"{base}_{variant}"], QUANTITIES[base]
                shown = (quantity.unit, quantity.better, quantity.scale, quantity.decimals)
                assert shown == (of.unit, of.better, of.scale, of.decimals)
    assert quantity_of("test/prob_mean/nll_calibrated").header() == "NLL, scaled ↓ (nats)"
    assert quantity_of("first/2/prob_mean/nll_cross_validated").header() == "NLL, cross-validated ↓ (nats)"
    assert np.isclose(quantity_of("relative/measured/energy_joules").scale, 1)


def test_the_glossary_cites_the_papers_of_the_functions() -> None:
    functions = {
        **{
            name: getattr(calibration, name) for name in ("nll", "brier", "ece", "ece_adaptive", "ece_classwise", "mce")
        },
        **{name: getattr(selective, name) for name in ("aurc", "augrc", "accuracy_at_80")},
        **out_of_distribution.DETECTION,
        **{name: getattr(diversity, name) for name in ("disagreement", "kl", "cosine", "q_statistic", "double_fault")},
        "ratio_error": diversity.ratio_error,
        "ambiguity_nll": diversity.ambiguity,
        "top5": top_k_accuracy,
        "temperature": fit_temperature,
    }
    for name, function in functions.items():
        docstring = " ".join((function.__doc__ or "").split())
        cited = re.findall(r"[A-Z][\w'&. -]+ (?:et al. )?\d{4}", QUANTITIES[name].source)
        assert cited, name
        assert not [paper for paper in cited if paper not in docstring], name
