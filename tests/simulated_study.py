"""Results folders for report tests, from simulated logits: no training, the same numbers every time."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.config import MethodEntry, Recipe, Run, Study, TaskConfig, expand
from benchmark.metrics.score import examples, score
from benchmark.store import Results, Row

SKILL = {
    "single": (1, 2.6), "deep_ensemble": (3, 2.6), "batch_ensemble": (3, 2.45), "mimo": (2, 2.5), "mixmo": (2, 2.65),
    "prune_and_tune": (3, 2.55), "nfe": (3, 2.62),
}  # fmt: skip
"""Members, and how far a member's logit of the true class stands out."""

COST = {
    "single": (1, 1), "deep_ensemble": (3, 3), "batch_ensemble": (1.02, 3), "mimo": (1.01, 1.02), "mixmo": (1.05, 1.1),
    "prune_and_tune": (3, 1.9), "nfe": (1.4, 1.3),
}  # fmt: skip
"""Parameters and training FLOPs relative to the single network."""


def small_task(**changes: Any) -> TaskConfig:
    return TaskConfig.model_validate(
        {"dataset": "digits", "network": {"name": "wide_resnet", "depth": 10, "width": 1}} | changes
    )


def small_study(methods: list[str | dict[str, Any]] | None = None, seeds: int = 2, **changes: Any) -> Study:
    entries = methods or [
        "single" if name == "single" else {"method": name, "num_members": members}
        for name, (members, _) in SKILL.items()
    ]
    return Study(
        name=changes.pop("name", "simulated"),
        tasks=changes.pop("tasks", [small_task()]),
        recipe=Recipe(epochs=10, batch_size=64, learning_rate=0.1),
        methods=[MethodEntry.model_validate(entry) for entry in entries],
        seeds=list(range(seeds)),
        **changes,
    )


def simulate(
    root: Path, study: Study, images: int = 300, with_examples: bool = True, with_validation: bool = True
) -> Results:
    """A results folder in which every run of the study is done."""
    results = Results(root)
    results.write_study(study)
    for run in expand(study):
        logits, labels = _predict(run, images, with_validation)
        results.write_row(done_row(run, score(logits, labels)))
        if with_examples:
            examples(logits, labels).to_parquet(results.run_dir(run.key) / "examples.parquet")
    return results


def done_row(run: Run, metrics: dict[str, Any]) -> Row:
    """The row of a finished run with given metrics and plausible costs."""
    size, work = COST[run.method]
    random = _random(run)
    return run.identity | {
        "key": run.key,
        "status": "done",
        "reason": None,
        "metrics": metrics,
        "costs": {
            "parameters": round(78_042 * size),
            "nonzero_parameters": round(78_042 * size * (0.5 if run.method == "nfe" else 1)),
            "forward_flops": round(13_300_000 * work),
            "forward_flops_nonzero": round(13_300_000 * work * 0.6),
            "training_flops": round(3 * 13_300_000 * work * 11_640),
            "training_flops_nonzero": round(3 * 13_300_000 * work * 11_640 * 0.6),
            "images_seen": round(11_640 * work),
        },
        "measured": {
            "train_seconds": 4.0 * work * random.uniform(0.95, 1.05),
            "compile_seconds": 0.0,
            "evaluation_seconds": 0.4 * work,
            "checkpoint_seconds": 0.05,
            "latency_ms_batch1": 1.9 * work * random.uniform(0.98, 1.02),
            "throughput_batch256": 9000 / work,
            "peak_bytes": round(180e6 * work),
        },
        "environment": {
            "device": "Simulated CPU",
            "threads": 2,
            "commit": "0123456789ab",
            "versions": {"python": "3.12.1", "torch": "2.11.0"},
        },
        "data": {"fingerprint": "5eed", "num_images": {"train": 1164, "validation": 130, "test": 360}},
        "finished": f"2026-01-02T03:04:{run.seed:02d}+00:00",
    }


def failed_row(run: Run, reason: str) -> Row:
    empty: dict[str, Any] = {"metrics": {}, "costs": {}, "measured": {}}
    return done_row(run, {}) | empty | {"status": "failed", "reason": reason}


def set_metrics(results: Results, run: Run, **changes: Any) -> None:
    """Change metrics of a row; `a__b__c` stands for `a/b/c`."""
    path = results.run_dir(run.key) / "row.json"
    row = json.loads(path.read_text())
    row["metrics"] |= {name.replace("__", "/"): value for name, value in changes.items()}
    results.write_row(row)


def _random(run: Run) -> np.random.Generator:
    return np.random.default_rng([run.seed, *run.key.encode()])


def _predict(run: Run, images: int, with_validation: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Logits and labels of every split that the run's task has."""
    random = _random(run)
    members, skill = SKILL[run.method]
    splits = {"test": skill}
    if with_validation:
        splits["validation"] = skill
    if run.task.shifted:
        splits |= {
            f"shifted/{k}/{s}": skill - 0.3 * s for k in run.task.shifted.kinds for s in run.task.shifted.severities
        }
    foreign = {f"out_of_distribution/{name}": 0.0 for name in run.task.out_of_distribution}
    logits, labels = {}, {}
    for split, strength in (splits | foreign).items():
        label_N = np.random.default_rng([images, *split.encode()]).integers(
            0, 10, images
        )  # the same images for all runs
        shared_NK = random.normal(size=(images, 10)) * 0.7
        logits_MNK = shared_NK + random.normal(size=(members, images, 10)) * 0.8
        logits_MNK[:, np.arange(images), label_N] += strength + random.normal(size=images) * 0.5
        logits[split] = (2.4 * logits_MNK).astype(np.float32)
        if split in splits:
            labels[split] = label_N
    return logits, labels
