"""A fission network as its method starts it."""

import torch

from benchmark.config import Recipe
from benchmark.method import Task
from methods.fission import FissionNetwork
from methods.nfe import Nfe


def started(method: Nfe, task: Task, recipe: Recipe, seed: int = 0) -> FissionNetwork:
    [stage] = method.stages(task, recipe)
    torch.manual_seed(seed)
    network = method.start(stage, task, {})
    assert isinstance(network, FissionNetwork)
    return network
