"""The predicted cost of a run against that of its networks, really started, and what makes it quick."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.config import Run, expand
from benchmark.cost import FlopCounter, loss_flops
from benchmark.data.catalogue import DATASETS
from benchmark.data.load import training_counts
from benchmark.method import Method, Stage, Task
from benchmark.plan import Images, all_nonzero, count_forwards, count_on, make_plan
from benchmark.run import make_method, resolved_study
from benchmark.seeding import seeded
from benchmark.task import make_task
from methods import METHODS
from methods.masks import random_scores
from methods.single import Single

CPU, META = torch.device("cpu"), torch.device("meta")
ENTRIES: list[dict[str, Any]] = [
    *({"method": name} for name in METHODS),
    {"method": "deep_ensemble", "num_members": 3, "execution": "stacked"},
    {"method": "batch_ensemble", "fast_init": "normal"},
    {"method": "mimo", "num_members": 2, "input_repetition": 0.5},
    {"method": "mixmo", "mixing": "linear"},
    {"method": "mixmo", "num_members": 3, "mixing": "patch", "patch_probability": 1.0},
    {"method": "prune_and_tune", "num_members": 3, "masks": "partition"},
    {"method": "prune_and_tune", "num_members": 2, "masks": "random", "sparsity": 0.7},
    {"method": "nfe", "num_members": 2, "sparsity": 0.5, "pruning": "snip"},
    {"method": "nfe", "num_members": 5, "sparsity": 0.9, "pruning": "random", "distillation": False},
    {"method": "nfe", "num_members": 3, "sparsity": 0.5, "variant": "released"},
    {"method": "nfe", "num_members": 3, "sparsity": 0.5, "variant": "released", "pruned_weights": "zero"},
    {"method": "nfe", "num_members": 3, "sparsity": 0.5, "grouping": "channels", "pruning": "snip_densities"},
    {"method": "nfe", "num_members": 2, "grouping": "dense"},
    {"method": "nfe", "num_members": 2, "balance": "1:3", "sparsity": 0.5, "pruning": "grasp"},
    {"method": "nfe", "num_members": 1, "sparsity": 0.5, "pruning": "synflow"},
]
NETWORKS: list[dict[str, Any]] = [
    {"name": "wide_resnet", "depth": 10, "width": 1},
    {"name": "resnet", "depth": 18},
    {"name": "preact_resnet"},
]
of_each_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: "-".join(map(str, entry.values())))
Study = Callable[..., Path]


def run_of(tiny_study: Study, entry: dict[str, Any], network: dict[str, Any] = NETWORKS[0], **recipe: Any) -> Run:
    path = tiny_study(methods=[entry], task={"network": network}, recipe=recipe)
    [run] = expand(resolved_study(str(path)))
    return run


def task_of(run: Run, device: torch.device = CPU) -> Task:
    def train_batch(asked: int) -> tuple[Tensor, Tensor]:
        count = min(asked, images_of(run).num_images)
        return torch.randn(count, 1, 8, 8, device=device), torch.arange(count, device=device) % 10

    return make_task(run, 10, (1, 8, 8), device, train_batch)


def images_of(run: Run) -> Images:
    num_train = DATASETS[run.task.dataset].num_train
    assert num_train is not None
    return Images(training_counts(run.task, num_train)[0], (1, 8, 8), 10)


def counted(run: Run, method: Method) -> int:
    """Training FLOPs of whole batches, on networks with weights, normalisation and masks, and of what `start` runs."""
    task, total = task_of(run), 0
    done: dict[str, nn.Module] = {}
    for stage in method.stages(task, run.recipe):
        with FlopCounter() as of_start:
            done[stage.name] = method.start(stage, task, done)
        of_step = loss_flops(method, done[stage.name], task, stage).executed
        total += 3 * (of_start.executed + of_step * stage.num_steps(images_of(run).num_images))
    return total


def predicted(run: Run, method: Method) -> int:
    plan = make_plan(run, method)
    assert plan is not None
    return plan.training_flops


@of_each_entry
def test_prediction_without_weights_is_what_networks_with_weights_execute(
    entry: dict[str, Any], tiny_study: Study
) -> None:
    run = run_of(tiny_study, entry)
    method = make_method(run)
    flops = counted(run, method)
    assert flops > 0
    assert predicted(run, method) == flops
    assert count_on(META, run, method, images_of(run)) == count_on(CPU, run, method, images_of(run))


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network["name"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_every_network_and_layout_is_predicted(network: dict[str, Any], channels_last: bool, tiny_study: Study) -> None:
    run = run_of(tiny_study, {"method": "nfe", "num_members": 2, "sparsity": 0.5}, network, channels_last=channels_last)
    method = make_method(run)
    assert count_on(META, run, method, images_of(run))
    assert predicted(run, method) == counted(run, method)


@dataclass(frozen=True)
class Asking(Single):
    """A single network on those images, of a batch, whose first pixel is not positive."""

    def loss(self, network: nn.Module, x_SBCHW: Tensor, y_SBK: Tensor, progress: float) -> Tensor:
        chosen = [image for image in range(x_SBCHW.shape[1]) if x_SBCHW[0, image, 0, 0, 0] <= 0]
        return super().loss(network, x_SBCHW[:, chosen], y_SBK[:, chosen], progress)


def test_a_method_that_asks_for_values_is_really_started(tiny_study: Study) -> None:
    run = run_of(tiny_study, {"method": "single"})
    with pytest.raises(RuntimeError, match="meta"):
        count_on(META, run, Asking(), images_of(run))
    assert count_forwards(run, Asking(), images_of(run)) == count_on(CPU, run, Asking(), images_of(run))
    assert predicted(run, Asking()) == counted(run, Asking())


def test_a_prediction_leaves_the_generator_as_it_was(tiny_study: Study) -> None:
    for entry in ENTRIES:
        run = run_of(tiny_study, entry)
        before = torch.get_rng_state()
        make_plan(run, make_method(run))
        assert torch.equal(torch.get_rng_state(), before)


@of_each_entry
def test_every_device_draws_from_the_cpus_generator(entry: dict[str, Any], tiny_study: Study) -> None:
    """The meta device stands for a GPU: what a method drew there would leave the CPU's generator behind."""
    run = run_of(tiny_study, entry | ({"sparsity": 0.0} if entry["method"] == "nfe" else {}))
    method = make_method(run)

    def states_after_draws(device: torch.device) -> list[Tensor]:
        task, states = task_of(run, device), []
        done: dict[str, nn.Module] = {}
        for stage in method.stages(task, run.recipe):
            with seeded(0, stage.name), all_nonzero():
                done[stage.name] = method.start(stage, task, done)
                states.append(torch.get_rng_state())
                _loss(method, done[stage.name], stage, device)
                states.append(torch.get_rng_state())
        return states

    pairs = list(zip(states_after_draws(CPU), states_after_draws(META), strict=True))
    assert all(torch.equal(on_cpu, elsewhere) for on_cpu, elsewhere in pairs)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_random_scores_are_the_same_for_weights_on_every_device(layout: torch.memory_format) -> None:
    weight = torch.zeros(4, 3, 3, 3).to(memory_format=layout)
    drawn = []
    for device in (CPU, META):
        torch.manual_seed(1)
        drawn.append(random_scores({"conv": weight.to(device)})["conv"])
    torch.manual_seed(1)
    expected = torch.rand_like(weight)
    assert all(torch.equal(scores, expected) for scores in drawn)


def _loss(method: Method, network: nn.Module, stage: Stage, device: torch.device) -> None:
    num_streams = len(stage.streams)
    x_SBCHW = torch.zeros(num_streams, 4, 1, 8, 8, device=device)
    method.loss(network, x_SBCHW, torch.full((num_streams, 4, 10), 0.1, device=device), 0.0)
