"""Which runs go to which job array: runs with different needs apart, short ones bundled, no array above the limit."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmark.config import Run
from benchmark.forecast import Forecast
from slurm.profile import Profile

LIMITS = (5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720, 960, 1440, 2160, 2880, 4320, 5760, 10080, 20160)
"""Minutes that predictions are rounded up to, so that runs of about the same length share an array."""


@dataclass(frozen=True)
class Array:
    """A job array: tasks with the same needs, each a list of runs."""

    minutes: int
    profile: Profile
    tasks: tuple[tuple[Run, ...], ...]

    @property
    def num_runs(self) -> int:
        return sum(map(len, self.tasks))

    @property
    def gpu_hours(self) -> float:
        """Requested: what the tasks would use if all ran to their limits."""
        return len(self.tasks) * self.minutes / 60 * self.profile.gpus


def make_arrays(
    runs: Sequence[Run], profile: Profile, forecast: Callable[[Run], Forecast], max_array_size: int
) -> list[Array]:
    """In the order of the grid within each array, so that early seeds are done first."""
    alike: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        alike[_minutes(forecast(run).seconds, profile)].append(run)
    arrays = []
    for minutes, some in sorted(alike.items()):
        tasks = [
            tuple(some[start : start + profile.runs_per_task]) for start in range(0, len(some), profile.runs_per_task)
        ]
        for start in range(0, len(tasks), max_array_size):
            arrays.append(Array(minutes, profile, tuple(tasks[start : start + max_array_size])))
    return arrays


def parallelism(arrays: Sequence[Array], at_once: int) -> list[int]:
    """Each array's share of the tasks that may run at once: at least one, the rest by their numbers of tasks."""
    shares = [1] * len(arrays)
    for _ in range(at_once - len(arrays)):
        wanting = [index for index, array in enumerate(arrays) if shares[index] < len(array.tasks)]
        if not wanting:
            break
        shares[max(wanting, key=lambda index: len(arrays[index].tasks) / shares[index])] += 1
    return shares


def _minutes(seconds: float | None, profile: Profile) -> int:
    """A task's time limit: of its runs together, times the margin, rounded up; never above the profile's."""
    longest = profile.time_limit_minutes
    if seconds is None or profile.margin is None:
        return longest
    # Side by side on one GPU runs slow each other down: at worst to the pace of one after another.
    together = seconds * profile.margin * profile.runs_per_task
    needed = math.ceil((together + profile.signal_seconds) / 60)
    return min(next((limit for limit in LIMITS if limit >= needed), longest), longest)
