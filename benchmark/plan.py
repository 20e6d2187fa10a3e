"""What a run will cost, said before it is trained and without its images."""

import dataclasses

import torch

from benchmark.config import Run
from benchmark.cost import loss_flops
from benchmark.data.catalogue import DATASETS
from benchmark.data.load import training_counts
from benchmark.method import Done, Method
from benchmark.seeding import seeded
from benchmark.task import make_task

PROBE_IMAGES = 2


def predicted_training_flops(run: Run, method: Method) -> int | None:
    """Three forwards per training step and stage, counted on networks that are started but never trained.

    What `start` itself runs (SNIP's one batch) is left out. None for a data set that only its files describe.
    """
    dataset = DATASETS[run.task.dataset]
    if dataset.num_classes is None or dataset.image_shape is None or dataset.num_train is None:
        return None
    num_images, _ = training_counts(run.task, dataset.num_train)
    image_shape, num_classes, device = dataset.image_shape, dataset.num_classes, torch.device("cpu")

    def train_batch(_: int) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(PROBE_IMAGES, *image_shape), torch.arange(PROBE_IMAGES) % num_classes

    task = make_task(run, num_classes, image_shape, device, train_batch)
    done: Done = {}
    total = 0
    for stage in method.stages(task, run.recipe):
        with seeded(run.seed, stage.name, "start"):
            network = method.start(stage, task, done)
        done[stage.name] = network
        counted = loss_flops(method, network, task, dataclasses.replace(stage, batch_size=PROBE_IMAGES))
        total += 3 * counted.executed * stage.batch_size // PROBE_IMAGES * stage.num_steps(num_images)
    return total
