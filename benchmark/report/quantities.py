"""What every metric and cost is called, its unit, which way is better and what it means.

A new metric of a row is one entry here and its name in a table's list. Formulas are those of the functions in
benchmark.metrics, whose docstrings say more: ties, empty bins, what is undefined.
"""

from dataclasses import replace

from benchmark.metrics.calibration import ECE_BINS
from benchmark.metrics.selective import COVERAGE_PERCENT
from benchmark.metrics.temperature import NUM_HALVINGS
from benchmark.report.quantity import MINUS, NONE, Better, Quantity, si_prefix
from benchmark.statistics import Estimate

__all__ = ["MINUS", "NONE", "QUANTITIES", "Quantity", "cell_text", "quantity_of", "si_prefix"]


def _percent(title: str, better: Better, meaning: str, formula: str, source: str = "", decimals: int = 1) -> Quantity:
    return Quantity(title, "%", better, meaning, 100, decimals, formula=formula, source=source)


def _raw(title: str, unit: str, better: Better, meaning: str, formula: str, source: str, decimals: int = 3) -> Quantity:
    return Quantity(title, unit, better, meaning, decimals=decimals, formula=formula, source=source)


def _count(title: str, unit: str, meaning: str) -> Quantity:
    return Quantity(title, unit, "lower", meaning, prefix=True, counted=True)


def _seconds(title: str, meaning: str) -> Quantity:
    return Quantity(title, "s", "lower", meaning)


def _variant(quantity: Quantity, title: str, how: str, formula: str = "", source: str = "") -> Quantity:
    """The same quantity of other probabilities or scores."""
    return replace(
        quantity,
        title=f"{quantity.title}, {title}",
        meaning=f"{quantity.title}, {how}",
        formula="; ".join(filter(None, (quantity.formula, formula))),
        source="; ".join(filter(None, (quantity.source, source))),
    )


VALIDATION_SCALED = ("scaled", "with probabilities scaled by the temperature fitted on validation images")
"""Title and meaning of what ends in `_calibrated`."""

SCALABLE = {
    "nll": _raw(
        "NLL", "nats", "lower", "mean of -log(probability given to the true class)",
        "1/N Σₙ -log pₙ(y)", "Good 1952, the logarithmic score",
    ),
    "brier": _raw(
        "Brier", "", "lower", "mean squared distance of the probabilities to the truth, summed over classes",
        "1/N Σₙ Σₖ (pₙₖ - [k = y])²", "Brier 1950, equation 2",
    ),
    "ece": _percent(
        "ECE", "lower", f"mean gap between confidence and accuracy over {ECE_BINS} equally wide bins",
        "Σ_b n_b/N |accuracy_b - mean p̂_b|", "Guo et al. 2017, equation 3", 2,
    ),
    "ece_adaptive": _percent(
        "adaptive ECE", "lower", f"mean gap between confidence and accuracy over {ECE_BINS} bins of equally many images",
        "Σ_b n_b/N |accuracy_b - mean p̂_b|, n_b ≈ N/B", "Nguyen & O'Connor 2015; Nixon et al. 2019", 2,
    ),
    "ece_classwise": _percent(
        "class-wise ECE", "lower",
        f"mean gap between a class's probability and its share of images over {ECE_BINS} equally wide bins, mean over "
        "all classes",
        "1/K Σₖ Σ_b n_kb/N |share of label k in b - mean pₖ in b|", "Kull et al. 2019", 3,
    ),
    "mce": _percent(
        "MCE", "lower", f"largest gap between confidence and accuracy in any of {ECE_BINS} equally wide bins",
        "max_b |accuracy_b - mean p̂_b|", "Naeini et al. 2015; Guo et al. 2017, equation 5",
    ),
    "aurc": _percent(
        "AURC", "lower", "mean error rate of the surest images, over all shares of images that can be accepted",
        "1/N Σᵢ (errors among the i surest images)/i", "Geifman et al. 2019", 2,
    ),
    "augrc": _percent(
        "AUGRC", "lower", "chance that an image is wrong and accepted, mean over all shares that can be accepted",
        "∫ P(wrong and accepted) d coverage", "Traub et al. 2024", 2,
    ),
    "accuracy_at_80": _percent(
        f"accuracy at {COVERAGE_PERCENT} %", "higher",
        f"accuracy on the {COVERAGE_PERCENT} % of the images with the highest confidence",
        f"correct among the ⌈{COVERAGE_PERCENT / 100:g} N⌉ surest images / ⌈{COVERAGE_PERCENT / 100:g} N⌉",
        "Geifman & El-Yaniv 2017",
    ),
}  # fmt: skip
"""Metrics that exist at three temperatures: 1, fitted on validation images, and cross-validated."""

TEMPERATURE = _raw(
    "temperature", "", None, "fitted on validation images; above 1 the network was too sure of itself",
    "argmin_T Σₙ -log softmax(log pₙ / T)(y)", "Guo et al. 2017", 2,
)  # fmt: skip

DETECTION = {
    "auroc": _percent(
        "AUROC", "higher", "chance that a foreign image gets a lower confidence than a test image; 50 % is guessing",
        "P(s_test > s_foreign) + P(s_test = s_foreign)/2", "Hanley & McNeil 1982; Hendrycks & Gimpel 2017",
    ),
    "aupr": _percent(
        "AUPR", "higher", "share of test images among those accepted, mean over the test images as thresholds",
        "Σ_t (R_t - R_{t-1}) P_t", "Davis & Goadrich 2006; Hendrycks & Gimpel 2017",
    ),
    "fpr95": _percent(
        "FPR at 95 %", "lower", "share of foreign images accepted where 95 % of the test images are",
        "P(s_foreign ≥ t), t the ⌈0.95 N⌉-th highest s_test", "Liang et al. 2018",
    ),
}  # fmt: skip
"""Test images against foreign ones, by the highest probability."""

SCORES = {
    "entropy": ("with entropy in place of confidence", "s = Σₖ pₖ log pₖ", "Shannon 1948"),
    "mutual_information": (
        "with what members disagree about in place of confidence",
        "s = 1/M Σₘ H(pₘ) - H(1/M Σₘ pₘ)", "Depeweg et al. 2018",
    ),
}  # fmt: skip
BY_SCORE = {
    f"{name}_{score}": _variant(quantity, score.replace("_", " "), *described)
    for name, quantity in DETECTION.items()
    for score, described in SCORES.items()
}

DIVERSITY = {
    "disagreement": _percent(
        "disagreement", None, "share of images on which two members choose different classes, mean over pairs",
        "2/(M(M-1)) Σ_{i<j} 1/N Σₙ [class_i ≠ class_j]", "Fort et al. 2019",
    ),
    "kl": _raw(
        "pairwise KL", "nats", None, "divergence between the probabilities of two members, mean over ordered pairs",
        "1/(M(M-1)) Σ_{i≠j} 1/N Σₙ Σₖ p_i log(p_i / p_j)", "Havasi et al. 2021",
    ),
    "cosine": _raw(
        "pairwise cosine", "", None, "similarity of two members' probability vectors, mean over pairs; 1 where equal",
        "2/(M(M-1)) Σ_{i<j} 1/N Σₙ p_i·p_j / (|p_i||p_j|)", "Djolonga et al. 2020",
    ),
    "q_statistic": _raw(
        "Q-statistic", "", None, "whether two members fail on the same images (1), independently (0) or on others (-1)",
        "(N₁₁N₀₀ - N₁₀N₀₁)/(N₁₁N₀₀ + N₁₀N₀₁), mean over pairs", "Kuncheva & Whitaker 2003, section 2.1",
    ),
    "double_fault": _percent(
        "double fault", None, "share of images that two members both get wrong, mean over pairs",
        "N₀₀/N, mean over pairs", "Kuncheva & Whitaker 2003, section 2.1",
    ),
    "ratio_error": _raw(
        "ratio-error", "", None, "images that one of two members gets wrong per image that both get wrong",
        "(N₁₀ + N₀₁)/N₀₀, mean over pairs", "Aksela 2003, as in Ramé et al. 2021", 2,
    ),
    "ambiguity_nll": _raw(
        "ambiguity, NLL", "nats", None, "mean NLL of the members minus NLL of the ensemble: what diversity gains",
        "1/M Σₘ NLLₘ - NLL", "Krogh & Vedelsby 1995; Wood et al. 2023",
    ),
    "ambiguity_brier": _raw(
        "ambiguity, Brier", "", None, "mean squared distance of the members' probabilities to their mean",
        "1/M Σₘ Brierₘ - Brier = 1/(MN) Σₘ Σₙ |pₘ - p̄|²", "Krogh & Vedelsby 1995; Wood et al. 2023",
    ),
}  # fmt: skip

QUANTITIES: dict[str, Quantity] = {
    "accuracy": _percent(
        "accuracy", "higher", "share of images whose most probable class is the true one", "1/N Σₙ [argmaxₖ pₙₖ = y]"
    ),
    "top5": _percent(
        "top-5 accuracy", "higher", "share of images whose true class is among the five most probable",
        "1/N Σₙ [rank of pₙ(y) ≤ 5]", "Russakovsky et al. 2015",
    ),
    "gain": Quantity(
        "gain", "points", "higher", "accuracy of the ensemble minus the mean accuracy of its members", 100, 1,
        formula="accuracy - 1/M Σₘ accuracyₘ",
    ),
    "best_epoch_gain": Quantity(
        "best epoch on test", "points", None,
        "what choosing the epoch by test accuracy would add to the last epoch's; no result here is chosen so", 100, 1,
        formula="max_e accuracy_e - accuracy", source="Cawley & Talbot 2010",
    ),
    "temperature": TEMPERATURE,
    **SCALABLE,
    **DETECTION,
    **DIVERSITY,
    **BY_SCORE,
    **{
        f"{name}_calibrated": _variant(quantity, *VALIDATION_SCALED)
        for name, quantity in (SCALABLE | DETECTION | BY_SCORE).items()
        if "mutual_information" not in name
    },
    **{
        f"{name}_cross_validated": _variant(
            quantity, "cross-validated",
            f"on halves of the test images scaled by the temperature of the other half, mean of {2 * NUM_HALVINGS}",
            source="Ashukha et al. 2020",
        )
        for name, quantity in SCALABLE.items()
    },
    "temperature_cross_validated": _variant(
        TEMPERATURE, "cross-validated", f"fitted on halves of the test images, mean of {2 * NUM_HALVINGS}",
        source="Ashukha et al. 2020",
    ),
    "parameters": _count("parameters", "", "numbers that training may change, all networks of a method together"),
    "nonzero_parameters": _count("nonzero parameters", "", "those of them that are not zero at the end"),
    "forward_flops": _count(
        "forward FLOPs", "per image", "to predict one image as it is executed, dense; a multiply-add is two"
    ),
    "forward_flops_nonzero": _count("forward FLOPs, nonzero", "per image", "the same, only of weights that are not zero"),
    "training_flops": _count(
        "training FLOPs", "", "all training a method needs, three forward passes for each image seen"
    ),
    "training_flops_nonzero": _count("training FLOPs, nonzero", "", "the same, only of weights that are not zero"),
    "images_seen": _count("images seen", "", "training images of all steps and streams"),
    "rows_seen": _count(
        "rows seen", "", "images seen, times members where batches are tiled, times repetitions where images repeat"
    ),
    "train_seconds": _seconds(
        "training time", "the method's own time: start, loss, backward, optimizer and after each step"
    ),
    "compile_seconds": _seconds("compile time", "torch.compile, not part of training"),
    "evaluation_seconds": _seconds("evaluation time", "predicting every split once, not part of training"),
    "checkpoint_seconds": _seconds("checkpoint time", "writing checkpoints, not part of training"),
    "latency_ms_batch1": Quantity("batch-1 latency", "ms", "lower", "to predict a single image with all members"),
    "throughput_batch256": Quantity(
        "batch-256 throughput", "images/s", "higher", "images predicted per second with all members, 256 at a time"
    ),
    "peak_bytes": Quantity("peak memory", "B", "lower", "largest memory in use during training", prefix=True),
    "energy_joules": Quantity(
        "energy", "J", "lower",
        "what the device reports to have used during training, whatever else ran on it included", prefix=True,
    ),
}  # fmt: skip


def quantity_of(source: str) -> Quantity:
    """The quantity in a column of the gathered runs: `test/prob_mean/accuracy`, `relative/costs/parameters`."""
    quantity = QUANTITIES[source.rpartition("/")[2]]
    if not source.startswith("relative/"):
        return quantity
    meaning = f"{quantity.title} divided by the mean of the single network"
    return replace(quantity, unit="× single", meaning=meaning, scale=1, decimals=2, prefix=False, formula="", source="")


def cell_text(source: str, estimate: Estimate | None, finished: int, planned: int) -> str:
    """`81.2 ± 0.3 (5/5)`; `– (0/2)` where no run finished; `–` where runs finished and have no such number."""
    if estimate is not None:
        return f"{quantity_of(source).show(estimate)} ({estimate.num_values}/{planned})"
    return NONE if finished else f"{NONE} (0/{planned})"
