"""Which packaged study would run what a claim compares."""

import functools
from typing import TYPE_CHECKING

from benchmark.config import STUDIES, MethodEntry, Study, TaskConfig, read_study

if TYPE_CHECKING:
    from benchmark.report.claims import Claim, Side


def is_on(task: TaskConfig, dataset: str, network: str | None) -> bool:
    """Whether a task is the whole of a public data set with a network, `wideresnet28x10`."""
    whole = task.train_images is None and task.test_images is None and task.folder is None
    return whole and (task.dataset, task.network_slug) == (dataset, network)


def would_run(claim: "Claim") -> str | None:
    """The name of the first packaged study that plans both sides, and images for the metric; None where none does."""
    if claim.dataset is None:
        return None
    for name, study in _packaged().items():
        tasks = [task for task in study.tasks if is_on(task, claim.dataset, claim.network)]
        measured = any(task.shifted is not None or not claim.metric.startswith("shifted/") for task in tasks)
        sides = (claim.first, claim.second)
        if measured and all(any(_plans(entry, side) for entry in study.methods) for side in sides):
            return name
    return None


@functools.cache
def _packaged() -> dict[str, Study]:
    return {
        str(path.relative_to(STUDIES).with_suffix("")): read_study(path) for path in sorted(STUDIES.rglob("*.yaml"))
    }


def _plans(entry: MethodEntry, side: "Side") -> bool:
    """Whether the side is a cell of the entry's grid. What a study file leaves to a method's defaults is not known here."""
    grid = {key: value if isinstance(value, list) else [value] for key, value in entry.options.items()}
    wanted = dict(side.options) if side.method == "single" else {"num_members": side.num_members, **side.options}
    held = all(key in grid and value in grid[key] for key, value in wanted.items())
    return entry.method == side.method and not entry.recipe and held
