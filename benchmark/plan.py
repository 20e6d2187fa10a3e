"""What a run will cost and how long its stages are, said before it is trained and without its images."""

import dataclasses
from collections import Counter
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.fx.experimental import _config as shape_config

from benchmark.config import Run, TaskConfig
from benchmark.cost import FlopCounter, loss_flops
from benchmark.data.catalogue import DATASETS
from benchmark.data.load import training_counts
from benchmark.errors import UserError
from benchmark.method import Done, Method, Stage, Task
from benchmark.seeding import seeded
from benchmark.task import make_task

META = torch.device("meta")
all_nonzero = partial(shape_config.patch, meta_nonzero_assume_all_nonzero=True)  # type: ignore[attr-defined]
"""On the meta device nothing tells which values are nonzero. Masks may as well keep all: executed FLOPs are dense."""


@dataclass(frozen=True)
class Images:
    """What a plan needs to know of the images that are trained on."""

    num_images: int
    shape: tuple[int, int, int]
    num_classes: int


@dataclass(frozen=True)
class Counted:
    """Forward FLOPs of a method's training."""

    start: int
    """of all that `start` runs: scores such as SNIP's"""
    steps: list[int]
    """of one step of each stage, with a whole batch"""


@dataclass(frozen=True)
class Plan:
    stages: list[Stage]
    training_flops: int

    @property
    def epochs(self) -> str:
        """`140 + 6 × 10 epochs`: of one stage after the other."""
        counts = Counter(f"{float(f'{stage.epochs:.3g}'):g}" for stage in self.stages)
        return (
            " + ".join(f"{count} × {epochs}" if count > 1 else epochs for epochs, count in counts.items()) + " epochs"
        )

    def __str__(self) -> str:
        return f"{self.training_flops:.3g} training FLOPs, {self.epochs}"


def make_plan(run: Run, method: Method) -> Plan | None:
    """A run's stages, and three forwards per training step. None for a data set that only its files describe.

    Raises UserError where a batch takes more images than there are, or the recipe's budget is too small for the method.
    """
    images = _known_images(run.task)
    if images is None:
        return None
    check_batch_size(run, images.num_images)
    stages, counted = method.stages(_task(run, images, META), run.recipe), count_forwards(run, method, images)
    stages = _within_budget(run, stages, counted, images)
    flops = 3 * counted.start
    for stage, step_flops in zip(stages, counted.steps, strict=True):
        num_seen = stage.images_in(stage.num_steps(images.num_images), images.num_images)
        flops += 3 * step_flops * num_seen // stage.batch_size
    return Plan(stages, flops)


def check_batch_size(run: Run, num_images: int) -> None:
    """Raises UserError."""
    if run.recipe.batch_size > num_images:
        raise UserError(
            f"{run.label}: batch_size {run.recipe.batch_size} is larger than the {num_images} training images of "
            f"{run.task.dataset}"
        )


def planned_stages(run: Run, method: Method, task: Task, images: Images) -> list[Stage]:
    """The method's stages, as long as the recipe's budget has them. Raises UserError as make_plan does."""
    check_batch_size(run, images.num_images)
    stages = method.stages(task, run.recipe)
    if run.recipe.budget == "epochs":
        return stages
    return _within_budget(run, stages, count_forwards(run, method, images), images)


def _within_budget(run: Run, stages: list[Stage], counted: Counted, images: Images) -> list[Stage]:
    """Under `budget: training_flops`, all stages shortened or lengthened by one factor, schedules and warm-up with them.

    Everything is charged: parents, every member, repeated batches, and scores before the first step. The factor follows
    from shapes alone, so that it is the same on every device.
    """
    if run.recipe.budget == "epochs":
        return stages
    alone = Stage.of(run.recipe)
    budget = _stage_flops(alone, alone.batch_size * network_flops(run, images), images)
    left = budget - 3 * counted.start
    if left <= 0:
        raise UserError(
            f"{run.label}: budget: training_flops: {3 * counted.start:.3g} are spent before the first step, more than the "
            f"{budget:.3g} of a single network over {run.recipe.epochs:g} epochs; give it more epochs"
        )
    needed = sum(_stage_flops(stage, flops, images) for stage, flops in zip(stages, counted.steps, strict=True))
    return [dataclasses.replace(stage, epochs=left / needed * stage.epochs) for stage in stages]


def _stage_flops(stage: Stage, step_flops: int, images: Images) -> float:
    """Training FLOPs of a stage before its steps are rounded to whole ones."""
    an_epoch = stage.images_in(stage.steps_per_epoch(images.num_images), images.num_images)
    return 3 * step_flops * an_epoch / stage.batch_size * stage.epochs


def count_forwards(run: Run, method: Method, images: Images) -> Counted:
    """Counted on networks that are started but never trained. Raises UserError where a method refuses the network."""
    try:
        # Shapes without values: no weight is drawn, nothing multiplied.
        return count_on(META, run, method, images)
    except Exception:  # what a method raises where it asks for a value is its own affair
        try:
            return count_on(torch.device("cpu"), run, method, images)
        except ValueError as error:
            raise UserError(f"{run.label}: {error}") from None


def count_on(device: torch.device, run: Run, method: Method, images: Images) -> Counted:
    """The same, on one device; what goes wrong on the meta device is raised."""
    task = _task(run, images, device)
    done: Done = {}
    counted = Counted(0, [])
    for stage in method.stages(task, run.recipe):
        with seeded(run.seed, stage.name, "start"), device, all_nonzero(), FlopCounter() as counter:
            done[stage.name] = method.start(stage, task, done)
        step_flops = loss_flops(method, done[stage.name], task, stage).executed
        counted = Counted(counted.start + counter.executed, [*counted.steps, step_flops])
    return counted


def network_flops(run: Run, images: Images) -> int:
    """Forward FLOPs of the study's network for one image."""
    with META, torch.no_grad(), FlopCounter() as counter:
        _task(run, images, META).network()(torch.empty(1, *images.shape))
    return counter.executed


def _task(run: Run, images: Images, device: torch.device) -> Task:
    def train_batch(asked: int) -> tuple[torch.Tensor, torch.Tensor]:
        count = min(asked, images.num_images)
        return torch.randn(count, *images.shape), torch.arange(count) % images.num_classes

    task = make_task(run, images.num_classes, images.shape, device, train_batch)
    if device.type == "meta":  # normalisation counts as nothing, and would take most of the time
        task = dataclasses.replace(task, network=partial(task.network, norm=nn.Identity))
    return task


def _known_images(task: TaskConfig) -> Images | None:
    dataset = DATASETS[task.dataset]
    if dataset.num_classes is None or dataset.image_shape is None or dataset.num_train is None:
        return None
    num_images, _ = training_counts(task, dataset.num_train)
    return Images(num_images, dataset.image_shape, dataset.num_classes)
