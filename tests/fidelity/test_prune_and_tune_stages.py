"""Prune and Tune's stages: epochs of parent and children, and the rate and momentum of every step (2202.11782)."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.optimizer import register_optimizer_step_pre_hook

from benchmark.config import Recipe
from benchmark.method import Stage, Task
from benchmark.schedules import Constant, ConstantThenLinear
from methods.prune_and_tune import PruneAndTune


@pytest.mark.parametrize(("num_members", "parent_share"), [(6, 0.7), (2, 0.5), (4, 0.9)])
def test_parent_and_children_share_the_epochs_of_the_recipe(
    num_members: int, parent_share: float, task_of: Callable[..., Task], recipe: Recipe
) -> None:
    recipe = recipe.model_copy(update={"epochs": 200.0})
    method = PruneAndTune(num_members=num_members, parent_share=parent_share)
    parent, *children = method.stages(task_of(), recipe)
    assert parent.epochs == pytest.approx(parent_share * 200)
    assert sum(child.epochs for child in children) == pytest.approx((1 - parent_share) * 200)
    assert len({child.epochs for child in children}) == 1
    assert {child.streams for child in children} == {(f"child-{m}",) for m in range(num_members)}


def test_the_papers_budget_is_140_epochs_and_six_times_10(task_of: Callable[..., Task], recipe: Recipe) -> None:
    schedule = ConstantThenLinear()
    recipe = recipe.model_copy(update={"epochs": 200.0, "schedule": schedule, "batch_size": 128})
    parent, *children = PruneAndTune().stages(task_of(), recipe)
    assert [round(stage.epochs, 9) for stage in (parent, *children)] == [140.0] + [10.0] * 6
    assert sum(stage.num_steps(50_000) for stage in (parent, *children)) == 200 * 390
    # The parent's schedule is the recipe's over its own 140 epochs: 0.1 to epoch 70, 0.001 from epoch 126.
    epochs = {0: 0.1, 69: 0.1, 98: 0.0505, 126: 0.001, 139: 0.001}
    assert {e: pytest.approx(parent.learning_rate(e / 140)) for e in epochs} == epochs


def test_tuning_rate_rises_over_a_tenth_and_falls_to_a_millionth(task_of: Callable[..., Task], recipe: Recipe) -> None:
    recipe = recipe.model_copy(update={"schedule": Constant(), "warmup_epochs": 1.0})
    child: Stage = PruneAndTune().stages(task_of(), recipe)[-1]
    by_hand = {
        0.0: 0.001,
        0.05: (0.001 + 0.1) / 2,
        0.1: 0.1,
        0.325: 1e-7 + (0.1 - 1e-7) * (1 + math.cos(math.pi / 4)) / 2,
        0.55: (0.1 + 1e-7) / 2,
        1.0: 1e-7,
    }
    assert {progress: pytest.approx(child.learning_rate(progress), rel=1e-9) for progress in by_hand} == by_hand


def one_cycle_as_released(epochs: int, steps_per_epoch: int) -> list[tuple[float, float]]:
    """Learning rate and momentum of each step, as the scheduler that the released code calls sets them."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9, nesterov=True)
    scheduler = OneCycleLR(
        optimizer, max_lr=0.1, steps_per_epoch=steps_per_epoch, epochs=epochs, div_factor=100, pct_start=0.1
    )
    steps = []
    for step in range(epochs * steps_per_epoch):
        [group] = optimizer.param_groups
        steps.append((group["lr"], group["momentum"]))
        optimizer.step()
        if step + 1 < epochs * steps_per_epoch:
            scheduler.step()
    return steps


def test_tuning_follows_the_released_one_cycle_at_every_step(task_of: Callable[..., Task], recipe: Recipe) -> None:
    child = PruneAndTune(variant="released").stages(task_of(), recipe)[1]
    released, total = one_cycle_as_released(epochs=10, steps_per_epoch=391), 3910
    peak = 0.1 * total - 1  # the scheduler's phases end one step early
    for step, (learning_rate, momentum) in enumerate(released):
        progress = 0.1 * step / peak if step <= peak else 0.1 + 0.9 * (step - peak) / (total - 1 - peak)
        assert child.learning_rate(progress) == pytest.approx(learning_rate, rel=1e-9)
        assert child.momentum(progress) == pytest.approx(momentum, rel=1e-12)
    steepest = max(abs(after[0] - before[0]) for before, after in itertools.pairwise(released))
    for step, (learning_rate, _) in enumerate(released):
        assert child.learning_rate(step / total) == pytest.approx(learning_rate, abs=steepest), "less than a step apart"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.9] * 6),
        ({"variant": "released"}, [0.95, 0.9, 0.85, 0.85 + 0.05 * (1 - math.cos(math.pi / 4)), 0.9, 0.95]),
        ({"variant": "released", "tuning_momentum": "constant"}, [0.9] * 6),
        ({"variant": "released", "tuning_schedule": "constant"}, [0.9] * 6),
    ],
    ids=str,
)
def test_momentum_is_the_recipes_or_as_released_mirrors_the_rate(
    options: Any, expected: list[float], task_of: Callable[..., Task], recipe: Recipe
) -> None:
    parent, child, *_ = PruneAndTune(**options).stages(task_of(), recipe)
    progresses = [0.0, 0.05, 0.1, 0.325, 0.55, 1.0]
    assert [child.momentum(progress) for progress in progresses] == pytest.approx(expected, rel=1e-12)
    assert {parent.momentum(progress) for progress in progresses} == {0.9}


def test_the_trainer_sets_the_stages_momentum_at_every_step(fit: Callable[..., Any], recipe: Recipe) -> None:
    seen: list[float] = []
    handle = register_optimizer_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["momentum"]))
    try:
        fit(PruneAndTune(num_members=2, parent_share=0.5, variant="released"), recipe.model_copy(update={"epochs": 4}))
    finally:
        handle.remove()
    assert seen[:12] == [0.9] * 12  # two epochs of 48 images in batches of 8
    expected = [0.95, *(0.85 + 0.05 * (1 - math.cos(math.pi * (step / 12 - 0.1) / 0.9)) for step in range(2, 12))]
    assert [seen[12], *seen[14:]] == pytest.approx(expected, rel=1e-9)
    assert 0.85 < seen[13] < 0.95


def test_a_constant_tuning_rate_is_the_recipes(task_of: Callable[..., Task], recipe: Recipe) -> None:
    recipe = recipe.model_copy(update={"schedule": ConstantThenLinear(), "warmup_epochs": 0.1})
    child = PruneAndTune(tuning_schedule="constant").stages(task_of(), recipe)[1]
    assert {child.learning_rate(progress) for progress in (0.0, 0.1, 0.7, 1.0)} == {0.1}


def test_the_published_run_as_released_has_six_children_and_seven_members(
    task_of: Callable[..., Task], recipe: Recipe
) -> None:
    method = PruneAndTune(num_members=7, variant="released")
    _, *children = method.stages(task_of(), recipe.model_copy(update={"epochs": 200.0}))
    assert [round(child.epochs, 9) for child in children] == [10.0] * 6
