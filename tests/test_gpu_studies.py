"""The studies for half an hour of one GPU: what they hold, in which order, and that their comments say what they cost."""

import re
from functools import cache
from pathlib import Path

import pytest

from benchmark.config import STUDIES, Run, Study, expand
from benchmark.run import planned, resolved_study

ROOT = Path(__file__).parents[1]
TEN_EPOCHS = "gpu/h200-cifar100-resnet18-ten-epochs"
PACKAGED = sorted(f"gpu/{path.stem}" for path in (STUDIES / "gpu").glob("*.yaml"))
GPU = [name for name in PACKAGED if name != TEN_EPOCHS]
RESNETS = [name for name in GPU if "resnet18" in name]
EQUAL_EPOCHS = [name for name in GPU if not name.endswith("-equal-flops")]


@cache
def study_of(name: str) -> Study:
    return resolved_study(name)


@cache
def flops_of(name: str) -> list[int]:
    """Of the first seed's runs, in their order."""
    plans = [planned(run) for run in one_seed(name)]
    assert all(plan is not None for plan in plans)
    return [plan.training_flops for plan in plans if plan is not None]


def one_seed(name: str) -> list[Run]:
    return [run for run in expand(study_of(name)) if run.seed == 0]


def test_two_data_sets_and_a_large_network_each_at_equal_epochs_and_at_equal_flops() -> None:
    names = ("cifar10-resnet18", "cifar100-resnet18", "cifar100-wrn28x10")
    assert sorted(f"gpu/h200-{name}{tail}" for name in names for tail in ("", "-equal-flops")) == GPU


def test_every_study_that_the_documents_name_is_packaged() -> None:
    for document in ("docs/gpu.md", "docs/results.md"):
        named = re.findall(r"\bgpu/h200-[\w-]+", (ROOT / document).read_text())
        assert set(named) <= set(PACKAGED), document
        assert named, document


@pytest.mark.parametrize("name", RESNETS)
def test_every_method_is_there_with_three_seeds(name: str) -> None:
    members = {"deep_ensemble": {3}, "batch_ensemble": {3}, "mimo": {2}, "mixmo": {2}, "prune_and_tune": {3}}
    runs = expand(study_of(name))
    assert {run.seed for run in runs} == {0, 1, 2}
    assert any(run.method == "single" for run in runs)
    for method, numbers in members.items():
        assert {run.options["num_members"] for run in runs if run.method == method} == numbers
    assert {run.options["mixing"] for run in runs if run.method == "mixmo"} == {"linear", "patch"}
    options = [run.options for run in runs if run.method == "nfe"]
    assert {(nfe["num_members"], nfe["sparsity"], nfe["variant"]) for nfe in options} == {
        (exits, sparsity, variant) for exits in (2, 3) for sparsity in (0, 0.5) for variant in ("paper", "released")
    }


@pytest.mark.parametrize("name", GPU)
def test_one_recipe_holds_for_all(name: str) -> None:
    study = study_of(name)
    assert not [entry for entry in study.methods if entry.recipe]
    assert 30 <= study.recipe.epochs <= 60
    assert (study.recipe.precision, study.recipe.compile) == ("bf16", "auto")


@pytest.mark.parametrize("name", EQUAL_EPOCHS)
def test_the_two_protocols_differ_in_the_budget_alone(name: str) -> None:
    epochs, flops = study_of(name), study_of(f"{name}-equal-flops")
    assert (epochs.recipe.budget, flops.recipe.budget) == ("epochs", "training_flops")
    assert flops.recipe.model_copy(update={"budget": "epochs"}) == epochs.recipe
    assert (flops.tasks, flops.methods, flops.seeds) == (epochs.tasks, epochs.methods, epochs.seeds)
    spent = flops_of(f"{name}-equal-flops")
    assert max(spent) < 1.02 * min(spent)


@pytest.mark.parametrize("name", RESNETS)
def test_a_seed_of_everything_comes_before_the_next_and_the_claim_of_nfe_comes_first(name: str) -> None:
    runs = expand(study_of(name))
    num_entries = len(runs) // 3
    assert [run.seed for run in runs] == [seed for seed in (0, 1, 2) for _ in range(num_entries)]
    assert [run.method for run in runs[:3]] == ["single", "nfe", "deep_ensemble"]


@pytest.mark.parametrize("name", GPU)
def test_the_comment_says_what_is_counted(name: str) -> None:
    """FLOPs, and the minutes that they take at the share of the matrix rate that it supposes."""
    text = " ".join((STUDIES / f"{name}.yaml").read_text().replace("\n# ", " ").split())
    total = sum(flops_of(name)) * len(study_of(name).seeds)
    assert re.findall(r"([\d.]+e\d+) training FLOPs are counted", text) == [f"{total:.3g}".replace("+", "")]
    [(low, high)] = re.findall(r"If (\d+) to (\d+) % of the 790 TFLOP/s", text)
    [(fewest, most)] = re.findall(r"that is (\d+) to (\d+) minutes of training", text)
    assert int(fewest) == round(total / (int(high) / 100 * 790e12) / 60)
    assert int(most) == round(total / (int(low) / 100 * 790e12) / 60)
    runs = len(expand(study_of(name)))
    assert (
        f"| `{name}` | {runs} | {total:.3g} | {fewest} to {most} |".replace("e+", "e")
        in (ROOT / "docs/gpu.md").read_text()
    )


def test_ten_epochs_hold_entries_of_the_grid_under_its_recipe() -> None:
    short, grid = study_of(TEN_EPOCHS), study_of("gpu/h200-cifar100-resnet18")
    assert short.recipe == grid.recipe.model_copy(update={"epochs": 10})
    assert (short.tasks, short.seeds) == (grid.tasks, grid.seeds)
    options = [run.options for run in one_seed("gpu/h200-cifar100-resnet18")]
    assert all(run.options in options for run in one_seed(TEN_EPOCHS))
    assert {run.method for run in one_seed(TEN_EPOCHS)} == {
        run.method for run in one_seed("gpu/h200-cifar100-resnet18")
    }


@pytest.mark.parametrize("name", EQUAL_EPOCHS)
def test_a_seed_fits_into_half_an_hour_at_the_lower_rate_that_is_supposed(name: str) -> None:
    lowest_share = 0.15 if name in RESNETS else 0.3
    assert sum(flops_of(name)) / (lowest_share * 790e12) < 30 * 60
