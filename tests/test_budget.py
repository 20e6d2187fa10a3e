"""Budgets: every method trains for as many epochs, or for as many training FLOPs as a single network takes for them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.config import Run, expand
from benchmark.cost import loss_flops
from benchmark.data.load import load
from benchmark.data.sources import Location
from benchmark.errors import UserError
from benchmark.method import Stage
from benchmark.plan import Images, count_on, make_plan, network_flops, planned_stages
from benchmark.run import make_method, resolved_study
from benchmark.task import make_task
from benchmark.trainer import Trainer
from methods import METHODS

CPU, META = torch.device("cpu"), torch.device("meta")
IMAGES = Images(200, (1, 8, 8), 10)
ENTRIES: list[dict[str, Any]] = [
    *({"method": name} for name in METHODS),
    {"method": "deep_ensemble", "num_members": 2, "execution": "stacked"},
    {"method": "batch_ensemble", "batches": "tiled"},
    {"method": "mimo", "num_members": 2, "batch_repetitions": 2},
    {"method": "prune_and_tune", "num_members": 2, "parent_share": 0.5},
    {"method": "nfe", "num_members": 2, "sparsity": 0.5, "snip_images": 64},
]
of_each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: "-".join(map(str, entry.values())))
Study = Callable[..., Path]


def run_of(tiny_study: Study, entry: dict[str, Any], budget: str = "training_flops", **recipe: Any) -> Run:
    settings = {"epochs": 24, "batch_size": 32, "budget": budget} | recipe
    [run] = expand(resolved_study(str(tiny_study(methods=[entry], recipe=settings))))
    return run


def single_flops(run: Run) -> int:
    """Of a single network over the recipe's epochs: three forwards for each image of each whole batch."""
    per_epoch = 200 // run.recipe.batch_size * run.recipe.batch_size
    return round(3 * network_flops(run, IMAGES) * per_epoch * run.recipe.epochs)


def steps_worth(run: Run, stages: list[Stage]) -> list[int]:
    """Training FLOPs of one step of each stage, on networks with weights."""
    method = make_method(run)
    task = make_task(run, 10, (1, 8, 8), CPU, lambda n: (torch.randn(n, 1, 8, 8), torch.arange(n) % 10))
    done: dict[str, torch.nn.Module] = {}
    for stage in stages:
        done[stage.name] = method.start(stage, task, done)
    return [3 * loss_flops(method, done[stage.name], task, stage).executed for stage in stages]


@of_each_entry
def test_training_flops_equal_the_single_networks_within_a_step_of_each_stage(
    entry: dict[str, Any], tiny_study: Study
) -> None:
    run = run_of(tiny_study, entry)
    plan = make_plan(run, make_method(run))
    assert plan is not None
    assert abs(plan.training_flops - single_flops(run)) <= sum(steps_worth(run, plan.stages)) / 2 + 1


@of_each_entry
def test_stages_keep_their_shares_of_the_training(entry: dict[str, Any], tiny_study: Study) -> None:
    equal, bought = run_of(tiny_study, entry, "epochs"), run_of(tiny_study, entry)
    method = make_method(equal)
    task = make_task(equal, 10, (1, 8, 8), META, lambda n: (torch.empty(0), torch.empty(0)))
    whole, scaled = (planned_stages(run, method, task, IMAGES) for run in (equal, bought))
    assert [stage.name for stage in scaled] == [stage.name for stage in whole]
    factors = [after.epochs / before.epochs for after, before in zip(scaled, whole, strict=True)]
    assert factors == pytest.approx([factors[0]] * len(factors))
    for after, before in zip(scaled, whole, strict=True):
        for progress in (0.0, 0.02, 0.3, 0.8, 1.0):
            assert after.learning_rate(progress) == before.learning_rate(progress)
        assert (
            replace(after, epochs=before.epochs, learning_rate=before.learning_rate, momentum=before.momentum) == before
        )


def test_a_single_network_trains_the_same_under_both_budgets(tiny_study: Study) -> None:
    plans = [make_plan(run, make_method(run)) for run in (run_of(tiny_study, {"method": "single"}, b) for b in
             ("epochs", "training_flops"))]  # fmt: skip
    assert plans[0] is not None
    assert plans[1] is not None
    assert [stage.epochs for stage in plans[1].stages] == [stage.epochs for stage in plans[0].stages] == [24.0]
    assert plans[0].training_flops == plans[1].training_flops


@pytest.mark.parametrize(("members", "epochs"), [(2, 12.0), (3, 8.0), (4, 6.0)])
def test_members_of_a_deep_ensemble_share_the_epochs(members: int, epochs: float, tiny_study: Study) -> None:
    for execution in ("sequential", "stacked"):
        entry = {"method": "deep_ensemble", "num_members": members, "execution": execution}
        run = run_of(tiny_study, entry)
        plan = make_plan(run, make_method(run))
        assert plan is not None
        assert [stage.epochs for stage in plan.stages] == pytest.approx([epochs] * len(plan.stages))


def test_repeated_batches_are_charged(tiny_study: Study) -> None:
    """One member: stem and head are the single network's, so what is left is four rows per image."""
    run = run_of(tiny_study, {"method": "mimo", "num_members": 1, "batch_repetitions": 4})
    plan = make_plan(run, make_method(run))
    assert plan is not None
    assert plan.stages[0].epochs == pytest.approx(24 / 4)
    assert plan.epochs == "6 epochs"


def test_scores_before_the_first_step_are_charged(tiny_study: Study) -> None:
    entry = {"method": "nfe", "sparsity": 0.5, "snip_images": 64}
    scored = run_of(tiny_study, entry | {"pruning": "snip"})
    unscored = run_of(tiny_study, entry | {"pruning": "random"})
    counted = count_on(META, scored, make_method(scored), IMAGES)
    assert counted.start == 64 * network_flops(scored, IMAGES)
    plans = [make_plan(run, make_method(run)) for run in (scored, unscored)]
    assert plans[0] is not None
    assert plans[1] is not None
    saved = plans[1].stages[0].epochs - plans[0].stages[0].epochs
    assert saved * 192 * counted.steps[0] / 32 == pytest.approx(counted.start), "epochs that the scores cost"


def test_a_plan_says_epochs_stage_by_stage(tiny_study: Study) -> None:
    run = run_of(tiny_study, {"method": "prune_and_tune", "num_members": 6}, "epochs", epochs=200)
    plan = make_plan(run, make_method(run))
    assert plan is not None
    assert plan.epochs == "140 + 6 × 10 epochs"


def test_a_budget_too_small_for_the_scores_is_one_line(tiny_study: Study) -> None:
    run = run_of(tiny_study, {"method": "nfe", "sparsity": 0.5, "snip_images": 200}, epochs=0.5)
    with pytest.raises(UserError, match=r"nfe-3: budget: .* before the first step.*; give it more epochs"):
        make_plan(run, make_method(run))


@of_each_entry
def test_what_is_trained_is_what_was_planned(entry: dict[str, Any], tiny_study: Study, tmp_path: Path) -> None:
    run = run_of(tiny_study, entry, epochs=3)
    data = load(run.task, Location(offline=True))
    method = make_method(run)
    trainer = Trainer(run, method, data, tmp_path, CPU)
    trainer.fit()
    plan = make_plan(run, method)
    assert plan is not None
    assert [stage.epochs for stage in trainer.stages] == [stage.epochs for stage in plan.stages]
    assert trainer.ledger.training_flops == plan.training_flops


@pytest.mark.parametrize("last_batch", ["drop", "keep"])
def test_a_kept_last_batch_is_seen_and_charged(last_batch: str, tiny_study: Study, tmp_path: Path) -> None:
    run = run_of(tiny_study, {"method": "deep_ensemble", "num_members": 2}, "epochs", epochs=2, last_batch=last_batch)
    data = load(run.task, Location(offline=True))
    trainer = Trainer(run, make_method(run), data, tmp_path, CPU)
    trainer.fit()
    num_seen = 2 * 2 * (200 if last_batch == "keep" else 192)
    assert trainer.ledger.images_seen == num_seen
    assert trainer.ledger.training_flops == 3 * network_flops(run, IMAGES) * num_seen
    assert [entry["epoch"] for entry in trainer.ledger.history] == [1, 2, 1, 2]
    plan = make_plan(run, make_method(run))
    assert plan is not None
    assert plan.training_flops == trainer.ledger.training_flops
