"""Short names of metrics, as typed on a command line and in claims -> columns of the gathered runs.

    nll                                   test/<pooling>/nll
    shifted/accuracy, shifted/3/accuracy  shifted/<pooling>/accuracy, shifted/3/<pooling>/accuracy
    out_of_distribution/cifar10/auroc     out_of_distribution/cifar10/<pooling>/auroc
    member/accuracy, disagreement         test/member/accuracy, test/disagreement
    training_flops, train_seconds         costs/training_flops, measured/train_seconds

A column's full name stands for itself.
"""

import re

from benchmark.errors import UserError, unknown
from benchmark.metrics.pooling import POOLINGS

POOLED = (
    *("accuracy", "top5", "gain", "best_epoch_gain", "ambiguity_nll", "ambiguity_brier"),
    *(
        f"{metric}{variant}"
        for metric in ("nll", "brier", "ece", "ece_adaptive", "ece_classwise", "mce", "aurc", "augrc", "accuracy_at_80")
        for variant in ("", "_calibrated", "_cross_validated")
    ),
    "temperature_cross_validated",
)
DIVERSITY = ("disagreement", "kl", "cosine", "q_statistic", "double_fault", "ratio_error")
MEMBER = ("accuracy", "nll", "brier", "ece")
VALIDATION = ("accuracy", "nll", "brier", "ece", "temperature")
SHIFTED = ("accuracy", "nll", "brier", "ece", "aurc", "nll_calibrated", "brier_calibrated", "ece_calibrated")
OUT_OF_DISTRIBUTION = tuple(
    f"{metric}{score}"
    for score in ("", "_entropy", "_mutual_information", "_calibrated", "_entropy_calibrated")
    for metric in ("auroc", "aupr", "fpr95")
)
COUNTED = (
    *("parameters", "nonzero_parameters", "forward_flops", "forward_flops_nonzero"),
    *("training_flops", "training_flops_nonzero", "images_seen", "rows_seen"),
)
MEASURED = (
    *("train_seconds", "compile_seconds", "evaluation_seconds", "checkpoint_seconds"),
    *("latency_ms_batch1", "throughput_batch256", "peak_bytes", "energy_joules"),
)

_POOLED_SPLITS = (
    (re.compile(r"shifted(/[1-5])?"), SHIFTED),
    (re.compile(r"validation"), VALIDATION),
    (re.compile(r"out_of_distribution/[\w.-]+"), OUT_OF_DISTRIBUTION),
    (re.compile(r"first/[1-9]\d*"), ("accuracy", "nll", "nll_calibrated", "nll_cross_validated")),
)


def source_of(name: str, pooling: str) -> str:
    """The column of a metric or cost, members pooled by `pooling` where the name doesn't say it. Raises UserError."""
    for kind, names in (("costs", COUNTED), ("measured", MEASURED)):
        if name in names:
            return f"{kind}/{name}"
    relative, _, cost = name.rpartition("relative/")
    if cost != name and not relative:
        return f"relative/{source_of(cost, pooling)}"
    split, _, metric = name.rpartition("/")
    head, _, last = split.rpartition("/")
    if last in POOLINGS:
        split, pooling = head, last
    if split in ("costs", "measured") and metric in COUNTED + MEASURED:
        return name
    if split == "test" or "/" not in name:
        if metric in DIVERSITY:
            return f"test/{metric}"
        if metric in POOLED:
            return f"test/{pooling}/{metric}"
    if split in ("member", "test/member") and metric in MEMBER:
        return f"test/member/{metric}"
    for pattern, metrics in _POOLED_SPLITS:
        if pattern.fullmatch(split) and metric in metrics:
            return f"{split}/{pooling}/{metric}"
    raise UserError(unknown("metric", name, known_names()))


def known_names() -> list[str]:
    """What can be typed, without the prefixes `shifted/`, `validation/`, `out_of_distribution/<set>/` and `relative/`."""
    return [*POOLED, *DIVERSITY, *(f"member/{metric}" for metric in MEMBER), *COUNTED, *MEASURED]
