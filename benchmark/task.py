"""What a method learns of a run: its task, made from the study's network and the shape of the images."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmark.config import Run
from benchmark.method import Task
from benchmark.networks import NETWORKS
from benchmark.networks.backbone import Backbone
from benchmark.options import build


def make_task(
    run: Run,
    num_classes: int,
    image_shape: tuple[int, int, int],
    device: torch.device,
    train_batch: Callable[[int], tuple[Tensor, Tensor]],
) -> Task:
    """Networks are built on the CPU, so that every device starts from the same weights, and moved to the device."""
    options = {key: value for key, value in run.task.network.items() if key != "name"}
    backbone = build("network", NETWORKS, run.task.network["name"], options)
    memory_format = torch.channels_last if run.recipe.channels_last else torch.contiguous_format

    def network(**parts: Any) -> Backbone:
        parts = {"in_channels": image_shape[0], "num_outputs": num_classes} | parts
        return backbone.build(**parts).to(device, memory_format=memory_format)

    return Task(run.task.dataset, num_classes, image_shape, run.seed, network, train_batch)
