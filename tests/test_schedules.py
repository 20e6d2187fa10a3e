"""Learning rates at chosen epochs against values worked out by hand."""

import math

import pytest
import torch
from pydantic import TypeAdapter, ValidationError

from benchmark.config import Recipe
from benchmark.method import Stage
from benchmark.schedules import Constant, ConstantThenLinear, Cosine, OneCycle, Schedule, Step, warmed_up


def assert_factors(schedule: Schedule, by_hand: dict[float, float]) -> None:
    for progress, expected in by_hand.items():
        assert schedule.factor(progress) == pytest.approx(expected, rel=1e-12, abs=1e-15), progress


def test_constant_is_constant() -> None:
    assert_factors(Constant(), {0.0: 1.0, 0.5: 1.0, 1.0: 1.0})


def test_step_multiplies_from_each_milestone_on() -> None:
    """x 0.2 at epochs 60, 120 and 160 of 200 (Wide ResNets)."""
    of_200 = {0: 1.0, 59.99: 1.0, 60: 0.2, 119.99: 0.2, 120: 0.04, 159.99: 0.04, 160: 0.008, 200: 0.008}
    assert_factors(Step(), {epoch / 200: factor for epoch, factor in of_200.items()})


@pytest.mark.parametrize(("epochs", "steps_per_epoch"), [(200, 390), (300, 97), (10, 7), (30, 1)])
def test_no_milestone_comes_a_step_late(epochs: int, steps_per_epoch: int) -> None:
    total, schedule = epochs * steps_per_epoch, Step(milestones=[0.1, 0.3, 0.6, 0.7], gamma=0.1)
    for tenths, before in ((1, 1.0), (3, 0.1), (6, 0.01), (7, 0.001)):
        step = total * tenths // 10
        assert schedule.factor((step - 1) / total) == pytest.approx(before)
        assert schedule.factor(step / total) == pytest.approx(before / 10)


def test_mixmos_steps_of_a_tenth() -> None:
    """x 0.1 after 100, 200 and 225 of 300 epochs."""
    schedule = Step(milestones=[100 / 300, 200 / 300, 225 / 300], gamma=0.1)
    of_300 = {99: 1.0, 100: 0.1, 199: 0.1, 200: 0.01, 224: 0.01, 225: 0.001, 299: 0.001}
    assert_factors(schedule, {epoch / 300: factor for epoch, factor in of_300.items()})


def test_cosine_is_half_a_cosine() -> None:
    quarter = (1 + math.sqrt(0.5)) / 2
    assert_factors(Cosine(), {0.0: 1.0, 0.25: quarter, 1 / 3: 0.75, 0.5: 0.5, 2 / 3: 0.25, 0.75: 1 - quarter, 1.0: 0.0})
    assert_factors(Cosine(final=0.1), {0.0: 1.0, 0.5: 0.55, 1.0: 0.1})


def test_one_cycle_rises_to_one_and_falls_to_a_millionth() -> None:
    by_hand = {
        0.0: 0.01,
        0.025: 0.01 + 0.99 * (1 - math.sqrt(0.5)) / 2,
        0.05: 0.505,
        0.1: 1.0,
        0.4: 1e-6 + (1 - 1e-6) * 0.75,
        0.55: (1 + 1e-6) / 2,
        0.7: 1e-6 + (1 - 1e-6) * 0.25,
        1.0: 1e-6,
    }
    assert_factors(OneCycle(), by_hand)


def test_one_cycle_is_torchs() -> None:
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    # torch counts the first step, and its peak is at pct_start * total_steps - 1.
    torchs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=101, pct_start=11 / 101, div_factor=100, final_div_factor=1e4
    )
    ours = OneCycle(peak_at=0.1)
    for step in range(101):
        assert 0.1 * ours.factor(step / 100) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-12)
        optimizer.step()
        if step < 100:
            torchs.step()


def test_constant_then_linear_is_nfes_schedule() -> None:
    """1 to half of 200 epochs, 0.01 from epoch 180 on, a line between: at epoch 140 half-way."""
    of_200 = {0: 1.0, 100: 1.0, 110: 1 - 0.99 / 8, 120: 0.7525, 140: 0.505, 170: 0.13375, 180: 0.01, 199: 0.01}
    assert_factors(ConstantThenLinear(), {epoch / 200: factor for epoch, factor in of_200.items()})


def test_constant_then_linear_is_the_released_function() -> None:
    """Garipov et al.'s learning_rate_schedule, which NFE, Prune-and-Tune and SWAG copy."""

    def factor(epoch: int, total: int) -> float:
        t = epoch / total
        if t <= 0.5:
            return 1.0
        if t <= 0.9:
            return 1.0 - (1.0 - 0.01) * (t - 0.5) / 0.4
        return 0.01

    assert_factors(ConstantThenLinear(), {epoch / 140: factor(epoch, 140) for epoch in range(140)})


def test_warm_up_scales_the_schedule_linearly_from_zero() -> None:
    assert warmed_up(1.0, 0.0, 0.1) == 0.0
    assert warmed_up(1.0, 0.05, 0.1) == pytest.approx(0.5)
    assert warmed_up(0.2, 0.05, 0.1) == pytest.approx(0.1)
    assert [warmed_up(0.2, progress, 0.1) for progress in (0.1, 0.5, 1.0)] == [0.2] * 3
    assert warmed_up(1.0, 0.0, 0.0) == 1.0


def test_a_stage_warms_up_over_the_recipes_epochs() -> None:
    recipe = Recipe(epochs=200, batch_size=128, learning_rate=0.4, warmup_epochs=2)
    whole, short = Stage.of(recipe), Stage.of(recipe, epochs=20.0)
    for epoch, expected in {0: 0.0, 0.5: 0.1, 1: 0.2, 2: 0.4, 59: 0.4, 60: 0.08, 160: 0.0032}.items():
        assert whole.learning_rate(epoch / 200) == pytest.approx(expected)
    for epoch, expected in {0: 0.0, 1: 0.2, 2: 0.4, 5: 0.4, 6: 0.08}.items():
        assert short.learning_rate(epoch / 20) == pytest.approx(expected), "warm-up counts in epochs"
    assert Stage.of(recipe, epochs=1.0).learning_rate(0.25) == pytest.approx(0.1), "a stage shorter than its warm-up"


def test_steps_of_a_stage_drop_the_last_partial_batch() -> None:
    recipe = Recipe(epochs=2.5, batch_size=128, learning_rate=0.1)
    assert Stage.of(recipe).num_steps(50_000) == round(2.5 * 390)
    assert Stage.of(recipe, epochs=0.0001).num_steps(128) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "step", "milestones": [0.6, 0.3]},
        {"name": "step", "milestones": [0.5, 0.5]},
        {"name": "step", "milestones": [1.5]},
        {"name": "constant_then_linear", "constant_until": 0.9, "linear_until": 0.5},
        {"name": "one_cycle", "peak_at": 1.0},
        {"name": "cosine", "finale": 0.1},
        {"name": "exponential"},
    ],
)
def test_a_schedule_that_makes_no_sense_is_an_error(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Schedule).validate_python(wrong)


@pytest.mark.parametrize("last_batch", ["drop", "keep"])
@pytest.mark.parametrize(("num_images", "batch_size"), [(60, 16), (64, 16), (17, 16), (50_000, 128)])
def test_images_of_a_stage_are_those_of_its_batches(num_images: int, batch_size: int, last_batch: str) -> None:
    stage = Stage.of(Recipe(epochs=3, batch_size=batch_size, learning_rate=0.1, last_batch=last_batch))  # type: ignore[arg-type]
    whole, left = divmod(num_images, batch_size)
    epoch = [batch_size] * whole + [left] * (last_batch == "keep" and left > 0)
    assert stage.steps_per_epoch(num_images) == len(epoch)
    assert stage.num_steps(num_images) == 3 * len(epoch)
    for num_steps in {0, 1, len(epoch) - 1, len(epoch), len(epoch) + 1, 3 * len(epoch)}:
        assert stage.images_in(num_steps, num_images) == sum((3 * epoch)[:num_steps])
