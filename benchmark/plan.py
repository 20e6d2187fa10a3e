"""What a run will cost, said before it is trained and without its images."""

import dataclasses
from functools import partial

import torch
from torch import nn
from torch.fx.experimental import _config as shape_config

from benchmark.config import Run
from benchmark.cost import loss_flops
from benchmark.data.catalogue import DATASETS
from benchmark.data.load import training_counts
from benchmark.method import Done, Method
from benchmark.seeding import seeded
from benchmark.task import make_task

PROBE_IMAGES = 2
all_nonzero = partial(shape_config.patch, meta_nonzero_assume_all_nonzero=True)  # type: ignore[attr-defined]
"""On the meta device nothing tells which values are nonzero. Masks may as well keep all: executed FLOPs are dense."""


def predicted_training_flops(run: Run, method: Method) -> int | None:
    """Three forwards per training step and stage, counted on networks that are started but never trained.

    What `start` itself runs (SNIP's one batch) is left out. None for a data set that only its files describe.
    """
    try:
        # Shapes without values: no weight is drawn, nothing multiplied.
        return count_training_flops(run, method, torch.device("meta"))
    except Exception:  # what a method raises where it asks for a value is its own affair
        return count_training_flops(run, method, torch.device("cpu"))


def count_training_flops(run: Run, method: Method, device: torch.device) -> int | None:
    """The same, counted on one device; what goes wrong on the meta device is raised."""
    dataset = DATASETS[run.task.dataset]
    if dataset.num_classes is None or dataset.image_shape is None or dataset.num_train is None:
        return None
    num_images, _ = training_counts(run.task, dataset.num_train)
    image_shape, num_classes = dataset.image_shape, dataset.num_classes

    def train_batch(_: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(PROBE_IMAGES, *image_shape), torch.arange(PROBE_IMAGES) % num_classes

    task = make_task(run, num_classes, image_shape, device, train_batch)
    if device.type == "meta":  # normalisation counts as nothing, and would take most of the time
        task = dataclasses.replace(task, network=partial(task.network, norm=nn.Identity))
    done: Done = {}
    total = 0
    for stage in method.stages(task, run.recipe):
        with seeded(run.seed, stage.name, "start"), device, all_nonzero():
            network = method.start(stage, task, done)
        done[stage.name] = network
        counted = loss_flops(method, network, task, dataclasses.replace(stage, batch_size=PROBE_IMAGES))
        total += 3 * counted.executed * stage.batch_size // PROBE_IMAGES * stage.num_steps(num_images)
    return total
