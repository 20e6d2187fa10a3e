"""Rows of runs that never ran, as many and as large as those of a large study: for measuring how fast reports are."""

from collections.abc import Iterator
from itertools import islice

import numpy as np

from benchmark.config import MethodEntry, Recipe, Shift, Study, TaskConfig, expand
from benchmark.metrics.score import examples, score
from benchmark.rows import Row, row_line
from benchmark.store import Results

METHODS = ("single", "deep_ensemble", "batch_ensemble", "mimo", "mixmo", "prune_and_tune", "nfe")
NETWORKS = (("wide_resnet", 28), ("resnet", 18))
COSTS = (
    *("parameters", "nonzero_parameters", "forward_flops", "forward_flops_nonzero", "training_flops"),
    *("training_flops_nonzero", "images_seen"),
)
MEASURED = (
    *("train_seconds", "compile_seconds", "evaluation_seconds", "checkpoint_seconds", "latency_ms_batch1"),
    *("throughput_batch256", "peak_bytes"),
)


def simulated_logits(
    num_members: int, num_images: int, num_classes: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """logits_MNK in float32 of members that agree in part and are right three times out of four, and labels_N."""
    random = np.random.default_rng(seed)
    label_N = random.integers(0, num_classes, num_images)
    shared_NK, own_MNK = (
        random.standard_normal(shape, np.float32)
        for shape in ((num_images, num_classes), (num_members, num_images, num_classes))
    )
    logits_MNK = 2 * shared_NK + own_MNK
    logits_MNK[:, np.arange(num_images), label_N] += (6 + 2 * random.standard_normal(num_images)).astype(np.float32)
    return logits_MNK, label_N


def simulated_study(num_rows: int) -> Study:
    """A grid of at least as many runs: two data sets, two networks, seven methods of up to eight members."""
    tasks = [
        TaskConfig(
            dataset=dataset,
            network={"name": name, "depth": depth},
            shifted=Shift(kinds=["gaussian_noise", "contrast"]),
            out_of_distribution=[other],
        )
        for dataset, other in (("cifar10", "cifar100"), ("cifar100", "cifar10"))
        for name, depth in NETWORKS
    ]
    entries = [MethodEntry(method="single")]
    entries += [
        MethodEntry(method=name, options={"num_members": size}) for name in METHODS[1:] for size in (2, 3, 4, 8)
    ]
    num_seeds = -(-num_rows // (len(tasks) * len(entries)))
    recipe = Recipe(epochs=200, batch_size=128, learning_rate=0.1)
    return Study(name="simulated", tasks=tasks, recipe=recipe, methods=entries, seeds=list(range(num_seeds)))


def write_rows(results: Results, num_rows: int, num_images: int = 0) -> Study:
    """Rows in run folders, and example files of `num_images` test images where any are wanted."""
    study = simulated_study(num_rows)
    results.write_study(study)
    table = examples(*_splits(num_images)) if num_images else None
    for run, row in zip(expand(study), islice(_rows(study), num_rows), strict=False):
        path = results.run_dir(run.key) / "row.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(row_line(row))  # a row of a simulated run may be lost: no fsync
        if table is not None:
            table.to_parquet(path.with_name("examples.parquet"))
    return study


def _rows(study: Study) -> Iterator[Row]:
    random = np.random.default_rng(0)
    metrics = score(*_splits(100))
    values_C = np.array([*metrics.values()])
    skill = {name: place for place, name in enumerate(METHODS)}
    for run in expand(study):
        noise_C = random.normal(1 - skill[run.method] / 100, 0.01, len(metrics))
        drawn = np.minimum(values_C * noise_C, np.maximum(values_C, 0.99)).tolist()
        size = float(run.options.get("num_members", 1))
        yield run.identity | {
            "key": run.key,
            "status": "done",
            "reason": None,
            "metrics": dict(zip(metrics, drawn, strict=True)),
            "costs": {name: round(1e6 * size) for name in COSTS},
            "measured": {name: 100 * size * random.uniform(0.9, 1.1) for name in MEASURED},
            "data": {"fingerprint": "5eed" * 16, "num_classes": 10, "num_images": {"train": 45000, "test": 10000}},
            "environment": {
                "device": "simulated",
                "threads": 1,
                "job": f"simulated-{run.seed}",
                "commit": "0" * 12,
                "diff": "",
                "versions": {"python": "3.11", "torch": "2.11"},
            },
            "finished": f"2026-01-02T03:04:{run.seed % 60:02d}+00:00",
        }


def _splits(num_images: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Logits and labels of four members on every split that a task of the study has."""
    shifts = [f"shifted/{kind}/{severity}" for kind in ("gaussian_noise", "contrast") for severity in range(1, 6)]
    splits = ["test", "validation", *shifts, "out_of_distribution/cifar100"]
    made = {split: simulated_logits(4, num_images, 10, seed) for seed, split in enumerate(splits)}
    return {split: pair[0] for split, pair in made.items()}, {split: made[split][1] for split in splits[:-1]}
