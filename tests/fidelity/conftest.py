"""Small tasks on the real networks, and two ways to train on them: by the trainer, or step by step on given batches."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark.config import Augmentation, Recipe, Run, TaskConfig
from benchmark.data.images import Split
from benchmark.data.load import TaskData
from benchmark.method import Done, Method, Stage, Task
from benchmark.schedules import Constant
from benchmark.trainer import Trainer, make_task

CPU = torch.device("cpu")
NUM_CLASSES = 4
IMAGE_SHAPE = (3, 8, 8)
SMALL = {"name": "wide_resnet", "depth": 10, "width": 1}
Batch = tuple[Tensor, Tensor]


def random_batch(num_streams: int, batch_size: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Batch:
    """Distinct images x_SBCHW and targets y_SBK that are no one-hot vectors."""
    generator = torch.Generator().manual_seed(seed)
    x_SBCHW = torch.randn(num_streams, batch_size, *IMAGE_SHAPE, generator=generator, dtype=dtype)
    y_SBK = torch.rand(num_streams, batch_size, NUM_CLASSES, generator=generator, dtype=dtype).mul(4).softmax(-1)
    return x_SBCHW, y_SBK


def small_run(network: dict[str, Any], recipe: Recipe, seed: int) -> Run:
    return Run("", "", {}, TaskConfig(dataset="digits", network=SMALL | network), recipe, seed, {})


def slimmed(parts: dict[str, Any]) -> dict[str, Any]:
    """Parts that make an eighth of the channels: the real network's structure at the cost of a small one.

    Not fewer: torch 2.15 corrupts memory in the backward of a channels_last 1x1 convolution of stride 2 on
    fewer than 8 channels (oneDNN, CPU).
    """

    def slim(channels: int) -> int:
        return channels // 8 if channels % 64 == 0 else channels

    conv, norm, linear = (
        parts.get(part, default)
        for part, default in (("conv", nn.Conv2d), ("norm", nn.BatchNorm2d), ("linear", nn.Linear))
    )
    return parts | {
        "conv": lambda i, o, **rest: conv(slim(i), slim(o), **rest),
        "norm": lambda channels: norm(slim(channels)),
        "linear": lambda i, o: linear(slim(i), o),
    }


@pytest.fixture
def recipe() -> Recipe:
    return Recipe(epochs=2, batch_size=8, learning_rate=0.1, schedule=Constant(), weight_decay=0.01)


@pytest.fixture
def task_of(recipe: Recipe) -> Callable[..., Task]:
    """A task on a network of a study: `task_of(name="resnet", depth=18, dtype=torch.float64)`.

    Networks other than wide_resnet, which has an option for it, are slimmed.
    """

    def make(dtype: torch.dtype = torch.float32, seed: int = 0, **network: Any) -> Task:
        def train_batch(num_images: int) -> Batch:
            x_SBCHW, y_SBK = random_batch(1, num_images, dtype, seed=99)
            return x_SBCHW[0], y_SBK[0].argmax(-1)

        options = network if "name" in network else SMALL | network
        run = replace(small_run({}, recipe, seed), task=TaskConfig(dataset="digits", network=options))
        task = make_task(run, NUM_CLASSES, IMAGE_SHAPE, CPU, train_batch)
        slim = slimmed if options["name"] != "wide_resnet" else dict
        return replace(task, network=lambda **parts: task.network(**slim(parts)).to(dtype))

    return make


@pytest.fixture
def batch_of() -> Callable[..., Batch]:
    return random_batch


@pytest.fixture
def train() -> Callable[..., None]:
    """Steps of SGD on given batches, written out here once more: groups, multipliers, decay, momentum, after_step."""

    def steps(method: Method, stage: Stage, network: nn.Module, batches: Iterable[Batch]) -> None:
        batches = list(batches)
        groups = [
            {
                "params": group.params,
                "lr": group.learning_rate_multiplier,
                "weight_decay": stage.weight_decay if group.weight_decay is None else group.weight_decay,
            }
            for group in method.param_groups(stage, network)
        ]
        multipliers = [group["lr"] for group in groups]
        optimizer = torch.optim.SGD(groups, momentum=stage.momentum(0.0), nesterov=stage.nesterov)
        network.train()
        for step, (x_SBCHW, y_SBK) in enumerate(batches):
            progress = step / len(batches)
            for group, multiplier in zip(optimizer.param_groups, multipliers, strict=True):
                group["lr"] = multiplier * stage.learning_rate(progress)
                group["momentum"] = stage.momentum(progress)
            torch.manual_seed(step)
            optimizer.zero_grad()
            method.loss(network, x_SBCHW, y_SBK, progress).backward()
            optimizer.step()
            with torch.no_grad():
                method.after_step(network, progress)

    return steps


@pytest.fixture
def slopes() -> Callable[..., tuple[float, float]]:
    """How steeply a method's loss rises along a random direction of all parameters: measured, and by its gradients."""

    def along(
        method: Method, network: nn.Module, batch: Batch, progress: float = 0.0, seed: int = 0
    ) -> tuple[float, float]:
        parameters = list(network.parameters())
        generator = torch.Generator().manual_seed(seed)
        direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]

        def loss() -> Tensor:
            torch.manual_seed(seed)
            return method.loss(network, *batch, progress)

        @torch.no_grad()
        def moved(distance: float) -> float:
            torch._foreach_add_(parameters, direction, alpha=distance)
            value = loss().item()
            torch._foreach_add_(parameters, direction, alpha=-distance)
            return value

        gradients = torch.autograd.grad(loss(), parameters)
        by_gradients = sum((g * d).sum().item() for g, d in zip(gradients, direction, strict=True))
        tiny = 1e-8  # a thousandth of it and rounding shows, a hundred times as much and ReLUs switch
        return (moved(tiny) - moved(-tiny)) / (2 * tiny), by_gradients

    return along


@pytest.fixture
def fit(tmp_path: Path, recipe: Recipe) -> Callable[..., tuple[Trainer, Done]]:
    """All stages of a method under the real trainer, on 48 random images. Arguments are the network's options."""

    def run_all(method: Method, recipe: Recipe = recipe, **network: Any) -> tuple[Trainer, Done]:
        generator = torch.Generator().manual_seed(1)
        train, validation, test = (
            Split(
                torch.randint(256, (size, 8, 8, 3), generator=generator, dtype=torch.uint8),
                torch.randint(NUM_CLASSES, (size,), generator=generator),
            )
            for size in (48, 0, 16)
        )
        names = tuple("abcd")
        data = TaskData(train, validation, test, {}, {}, names, IMAGE_SHAPE, (0.5,) * 3, (0.25,) * 3, "random")
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        trainer = Trainer(small_run(network, recipe, seed=0), method, data, folder, CPU)
        return trainer, trainer.fit()

    return run_all


@pytest.fixture
def augmented(recipe: Recipe) -> Recipe:
    """A recipe whose streams differ in order, crops and flips."""
    return recipe.model_copy(update={"augmentation": Augmentation(crop_padding=1, flip=True)})
