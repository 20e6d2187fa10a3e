"""What is measured: the methods of a study on random images of its first task's shape, driven by the real trainer."""

import dataclasses
import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch
from torch import nn

from benchmark import cost, options
from benchmark.config import Run, Study, TaskConfig, expand
from benchmark.data.catalogue import DATASETS
from benchmark.data.images import Split
from benchmark.data.load import TaskData
from benchmark.errors import UserError
from benchmark.method import Done, Method, Stage
from benchmark.progress import Progress, Reporter
from benchmark.trainer import STEPS_BETWEEN_READS, Trainer
from methods import METHODS

MOST_BYTES = 2**28
"""Of random training images; CIFAR's are fewer."""
NUM_TEST = 512


def random_data(task: TaskConfig, batch_size: int) -> TaskData:
    """Pixels and labels of a data set's shape, drawn at random: what is in an image takes no time."""
    known = DATASETS[task.dataset]
    if known.image_shape is None or known.num_classes is None or not known.num_train:
        allowed = ", ".join(name for name, each in DATASETS.items() if each.image_shape and each.num_train)
        raise UserError(f"dataset {task.dataset}: can't be measured without its files (allowed: {allowed})")
    (channels, height, width), num_classes = known.image_shape, known.num_classes
    num_train = min(known.num_train, MOST_BYTES // (channels * height * width))
    if batch_size > num_train:
        raise UserError(f"batch_size {batch_size} is more than the {num_train} images that are drawn of {task.dataset}")
    draws = torch.Generator().manual_seed(0)

    def split(num_images: int) -> Split:
        shape = (num_images, height, width, channels)
        return Split(
            torch.randint(256, shape, dtype=torch.uint8, generator=draws),
            torch.randint(num_classes, (num_images,), generator=draws),
        )

    return TaskData(
        train=split(num_train),
        validation=split(NUM_TEST),
        test=split(NUM_TEST),
        shifted={},
        out_of_distribution={},
        class_names=tuple(map(str, range(num_classes))),
        image_shape=known.image_shape,
        mean_C=(0.5,) * channels,
        std_C=(0.25,) * channels,
        fingerprint="random",
    )


class Subject:
    """One method: its trainer, and its stages with the networks they start from."""

    def __init__(self, run: Run, method: Method, data: TaskData, folder: Path, device: torch.device):
        self.run, self.method, self.data = run, method, data
        self.trainer = Trainer(run, method, data, folder, device)
        self.done: Done = {}
        for stage in self.trainer.stages:
            self.done[stage.name] = self.trainer._started(stage, self.done)

    @property
    def name(self) -> str:
        return self.run.label

    @cached_property
    def driven(self) -> "list[Driven]":
        """A stage of each kind: stages that train the same class of network on as many streams are alike."""
        kinds: dict[tuple[type[nn.Module], int], Driven] = {}
        for stage in self.trainer.stages:
            network = self.done[stage.name]
            kind = type(network), len(stage.streams)
            if kind in kinds:
                kinds[kind].num_steps += stage.num_steps(self.num_images)
            else:
                several = len({type(each) for each in self.done.values()}) > 1
                name = f"{self.name}, {stage.name}" if several else self.name
                kinds[kind] = Driven(name, self.trainer, stage, network, stage.num_steps(self.num_images))
        return list(kinds.values())

    @property
    def num_images(self) -> int:
        """Training images of the data set, not of the few that are drawn."""
        return DATASETS[self.run.task.dataset].num_train or len(self.data.train)


class Driven:
    """One stage whose steps the trainer takes, one per call."""

    def __init__(self, name: str, trainer: Trainer, stage: Stage, network: nn.Module, num_steps: int):
        self.name, self.trainer, self.stage, self.network, self.num_steps = name, trainer, stage, network, num_steps
        self.optimizer = trainer._optimizer(stage, network)
        self.streams = [trainer.stream(each, stage.batch_size) for each in stage.streams]
        self._next = 0

    def step(self) -> None:
        self.trainer._step(self.stage, self.network, self.optimizer, self.streams, self._next, 0.0)
        self._next += 1

    @cached_property
    def flops(self) -> int:
        """Executed forward FLOPs of a step."""
        return cost.loss_flops(self.trainer.method, self.network.train(), self.trainer.task, self.stage).executed


def make_method(run: Run) -> Method:
    method: Method = options.build("method", METHODS, run.method, run.options)
    return method


def subjects(study: Study, folder: Path, device: torch.device) -> list[Subject]:
    """The methods of a resolved study, for its first task and seed."""
    data = random_data(study.tasks[0], study.recipe.batch_size)
    first = study.model_copy(update={"tasks": study.tasks[:1], "seeds": study.seeds[:1]})
    return [Subject(run, make_method(run), data, folder / run.key, device) for run in expand(first)]


def repeated(step: Callable[[], object], times: int) -> Callable[[], None]:
    def work() -> None:
        for _ in range(times):
            step()

    return work


def seconds_per_looped_step(
    run: Run, data: TaskData, device: torch.device, num_steps: int, now: Callable[[], float]
) -> float:
    """Of `Trainer.fit` on a method of one stage: all that passes between two reports, reporting included."""
    chunk = STEPS_BETWEEN_READS[device.type]
    steps_per_epoch = len(data.train) // run.recipe.batch_size
    # The first chunk may warm up, the last ends an epoch.
    total = min((max(1, num_steps // chunk) + 2) * chunk, steps_per_epoch)
    recipe = run.recipe.model_copy(update={"epochs": total / steps_per_epoch, "warmup_epochs": 0})
    reported: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        reporter = Reporter(Path(folder), should_stop=lambda: False)

        def report(progress: Progress) -> None:
            if not progress.epoch_ended:
                reporter.progress(progress)
                reported.append((now(), progress.share * total))

        shortened = dataclasses.replace(run, recipe=recipe)
        Trainer(shortened, make_method(run), data, Path(folder), device, report=report).fit()
    (begun, first_step), (ended, last_step) = reported[0], reported[-1]
    return (ended - begun) / (last_step - first_step)
