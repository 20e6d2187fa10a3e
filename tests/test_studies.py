"""The packaged studies: papers' recipes against the numbers of their code, protocols, and the claims about NFE."""

import re
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from benchmark.config import STUDIES, Run, Study, expand, load_study
from benchmark.data.load import load
from benchmark.data.sources import Location
from benchmark.method import Stage
from benchmark.run import make_method, planned, resolved_study
from benchmark.trainer import Trainer

ROOT = Path(__file__).parents[1]
PAPERS, CLAIMS, PROTOCOLS = (
    sorted(f"{folder}/{path.stem}" for path in (STUDIES / folder).glob("*.yaml"))
    for folder in ("papers", "claims", "protocols")
)
METHODS_OF_NFES_COMPARISON = {"deep_ensemble", "batch_ensemble", "mimo", "mixmo", "prune_and_tune", "nfe"}


@cache
def study_of(name: str) -> Study:
    return resolved_study(name)


def run_of(name: str, label: str) -> Run:
    return next(run for run in expand(study_of(name)) if run.label.startswith(label))


def stages_of(run: Run) -> list[Stage]:
    plan = planned(run)
    assert plan is not None
    return plan.stages


def test_every_study_that_the_documents_name_is_packaged() -> None:
    for document in ("README.md", "docs/fidelity.md"):
        for name in re.findall(r"\b(?:papers|protocols|claims)/[\w.-]+\w(?=[`\s])", (ROOT / document).read_text()):
            assert name in [*PAPERS, *PROTOCOLS, *CLAIMS], f"{document}: {name}"


UPDATES = [
    # study, entry, updates of a training, rows of an update: both as the released code makes them
    ("papers/deep_ensemble-cifar10", "single", 19_400, 512),
    ("papers/deep_ensemble-cifar100", "deep_ensemble-4", 4 * 19_400, 512),
    ("papers/deep_ensemble-cifar100-300-epochs", "single", 117_300, 128),
    ("papers/batch_ensemble-cifar10", "single", 19_400, 512),
    ("papers/batch_ensemble-cifar100", "batch_ensemble-4", 97_500, 512),
    ("papers/mimo-cifar10", "mimo-3", 97_500, 512),
    ("papers/mixmo-cifar100", "single", 234_300, 64),
    ("papers/mixmo-cifar10", "mixmo-2", 937_500, 64),
    ("papers/mixmo-cifar10", "mimo-2", 937_500, 64),
    ("papers/mixmo-tinyimagenet", "mixmo-2", 4_800_000, 100),
    ("papers/prune_and_tune-cifar100", "prune_and_tune-6", 78_200, 128),
    ("papers/prune_and_tune-cifar100", "prune_and_tune-7", 78_200, 128),
    ("papers/nfe-cifar100", "nfe-3", 78_200, 128),
]


@pytest.mark.parametrize(("name", "label", "updates", "rows"), UPDATES)
def test_a_papers_training_has_its_updates_of_its_rows(name: str, label: str, updates: int, rows: int) -> None:
    run = run_of(name, label)
    num_images = 100_000 if run.task.dataset == "tinyimagenet" else 50_000
    stages = stages_of(run)
    assert sum(stage.num_steps(num_images) for stage in stages) == updates
    assert {stage.batch_size * make_method(run).rows_per_image for stage in stages} == {rows}


RATES = [
    # study, entry, epoch -> learning rate just after that many epochs
    ("papers/deep_ensemble-cifar100", "single", {0.5: 0.2, 59.9: 0.4, 60: 0.08, 120: 0.016, 160: 0.0032}),
    ("papers/batch_ensemble-cifar100", "batch_ensemble", {0.5: 0.05, 99.9: 0.1, 100: 0.02, 200: 0.004, 225: 0.0008}),
    ("papers/mimo-cifar100", "mimo", {0.5: 0.05, 99.9: 0.1, 100: 0.02, 200: 0.004, 225: 0.0008}),
    ("papers/mixmo-cifar100", "mixmo", {99.9: 0.0125, 100: 0.00125, 200: 0.000125, 225: 0.0000125}),
    ("papers/mixmo-cifar100", "single", {99.9: 0.05, 100: 0.005}),
    ("papers/mixmo-tinyimagenet", "mixmo", {0.5: 0.025, 599: 0.05, 600: 0.005, 900: 0.0005}),
    ("papers/nfe-cifar100", "nfe", {0: 0.1, 100: 0.1, 140: 0.0505, 180: 0.001, 199: 0.001}),
    ("papers/prune_and_tune-cifar100", "prune_and_tune", {0: 0.1, 70: 0.1, 98: 0.0505, 126: 0.001}),
]


@pytest.mark.parametrize(("name", "label", "rates"), RATES)
def test_a_papers_learning_rate_is_its_schedules(name: str, label: str, rates: dict[float, float]) -> None:
    stage = stages_of(run_of(name, label))[0]
    for epoch, rate in rates.items():
        assert stage.learning_rate(epoch / stage.epochs) == pytest.approx(rate, rel=1e-6), epoch


def test_papers_train_on_all_images_and_decay_in_pytorchs_unit() -> None:
    decays = {"deep_ensemble-cifar10": 4e-4, "deep_ensemble-cifar100": 4e-4, "mixmo-tinyimagenet": 1e-4}
    decays |= {f"{m}-cifar{k}": 6e-4 for m in ("batch_ensemble", "mimo", "mixmo") for k in (10, 100)}
    for name in PAPERS:
        study = study_of(name)
        assert study.recipe.weight_decay == decays.get(study.name, 5e-4)
        assert {task.train_on for task in study.tasks} == {"full"}
        is_google = study.name.startswith(("batch_ensemble", "mimo")) or study.name in ("deep_ensemble-cifar10",
                                                                                       "deep_ensemble-cifar100")  # fmt: skip
        assert study.recipe.augmentation.crop_padding == (2 if is_google else 4)


@pytest.mark.parametrize(
    ("name", "multiply_adds"),
    [
        ("papers/mimo-cifar100", 5.243e9),
        ("papers/batch_ensemble-cifar100", 5.243e9),
        ("papers/nfe-cifar100", 5.951e9),
        ("papers/mixmo-cifar100", 5.951e9),
    ],
)
def test_each_paper_has_its_own_wide_resnet(name: str, multiply_adds: float) -> None:
    run = run_of(name, "single")
    plan = planned(run)
    assert plan is not None
    num_steps = plan.stages[0].num_steps(50_000)
    images = plan.stages[0].images_in(num_steps, 50_000)
    assert plan.training_flops / (3 * 2 * images) == pytest.approx(multiply_adds, abs=0.0006e9)


def test_each_claim_and_control_has_a_study_for_a_gpu_and_a_small_one() -> None:
    names = [name.removeprefix("claims/") for name in CLAIMS]
    large = [name for name in names if not name.endswith("-small")]
    assert sorted(names) == sorted(large + [f"{name}-small" for name in large])
    numbered = sorted(int(name[1:].partition("-")[0]) for name in large if name.startswith("c") and name[1].isdigit())
    assert numbered == list(range(1, 11))
    assert [name for name in large if name.startswith("control-")] == sorted(
        name for name in large if name.startswith(tuple(f"control-{number}-" for number in range(1, 5)))
    )
    assert len(large) == 14


@pytest.mark.parametrize("name", [name for name in CLAIMS if name.endswith("-small")])
def test_a_small_study_asks_what_the_large_one_does(name: str) -> None:
    """The same methods and options vary, over fewer values at most."""
    small, large = study_of(name), study_of(name.removesuffix("-small"))
    assert {entry.method for entry in small.methods} == {entry.method for entry in large.methods}

    def varied(study: Study) -> set[tuple[str, str]]:
        return {
            (entry.method, option)
            for entry in study.methods
            for other in study.methods
            for option in entry.options
            if other.method == entry.method and other.options[option] != entry.options[option]
        }

    assert varied(small) == varied(large)
    assert {task.dataset for task in small.tasks} == {"digits"}


def test_nfe_is_compared_with_every_cheap_ensemble_where_the_claim_says_so() -> None:
    for name in ("claims/c9-members", "claims/c10-uncertainty"):
        assert {entry.method for entry in study_of(name).methods} >= METHODS_OF_NFES_COMPARISON


@pytest.mark.parametrize("of", ["cifar100-resnet18", "digits"])
def test_the_two_protocols_differ_in_the_budget_alone(of: str) -> None:
    epochs, flops = study_of(f"protocols/equal-epochs-{of}"), study_of(f"protocols/equal-flops-{of}")
    assert (epochs.recipe.budget, flops.recipe.budget) == ("epochs", "training_flops")
    assert flops.recipe.model_copy(update={"budget": "epochs"}) == epochs.recipe
    assert (flops.tasks, flops.methods, flops.seeds) == (epochs.tasks, epochs.methods, epochs.seeds)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_dry_run_shows_the_epochs_and_cost_of_every_run(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmark.sweep", name, "--dry-run", "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    *lines, total = done.stdout.splitlines()
    assert len(lines) == len(expand(load_and_resolve(name)))
    assert all("training FLOPs, " in line and line.endswith(" epochs") for line in lines)
    assert "training FLOPs to do" in total
    if "equal-flops" in name:
        spent = [float(line.partition(" training FLOPs")[0].split()[-1]) for line in lines]
        assert max(spent) < 1.02 * min(spent)


def load_and_resolve(name: str) -> Study:
    assert load_study(name).name == name.rpartition("/")[2]
    return study_of(name)


@pytest.mark.parametrize("name", PAPERS)
def test_every_entry_of_a_paper_can_be_planned(name: str) -> None:
    study = study_of(name)
    for run in expand(study.model_copy(update={"seeds": study.seeds[:1]})):
        plan = planned(run)
        assert plan is not None
        assert plan.training_flops > 1e17


def test_every_entry_of_the_small_claims_trains(tmp_path: Path) -> None:
    """One epoch of a few images; equal runs once."""
    runs = {
        run.key: run
        for name in CLAIMS
        if name.endswith("-small")
        for run in expand(study_of(name).model_copy(update={"seeds": [0]}))
    }
    assert len(runs) > 40
    for key, run in runs.items():
        few = {"train_images": 64, "validation_images": 20, "test_images": 40}
        short = {"epochs": 1.0, "batch_size": 32}
        run = replace(run, task=run.task.model_copy(update=few), recipe=run.recipe.model_copy(update=short))
        data = load(run.task, Location(offline=True))
        trainer = Trainer(run, make_method(run), data, tmp_path / key, torch.device("cpu"))
        trainer.fit()
        assert [entry["epoch"] for entry in trainer.ledger.history] == [1] * len(trainer.stages), run.label
