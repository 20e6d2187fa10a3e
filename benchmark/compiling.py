"""torch.compile: where it is on, and how a stage goes on where it fails."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from benchmark.config import Recipe
from benchmark.files import warn


def compiles(recipe: Recipe, device: torch.device) -> bool:
    """`auto` is on for a GPU. On a CPU compiling takes longer than small runs (docs/speed.md)."""
    return device.type == "cuda" if recipe.compile == "auto" else recipe.compile


def compile_or_not(take_step: Callable[[], Tensor], network: nn.Module, stage_name: str) -> Tensor:
    """A stage's first step, which compiles. Where that fails, it is taken again without, and so are all that follow."""
    before = copy.deepcopy(network.state_dict())
    try:
        return take_step()
    except TorchDynamoException as error:
        reason = " ".join(str(error).split())[:200]
        warn(f"stage {stage_name} can't be compiled and is trained uncompiled: {reason}")
        network._compiled_call_impl = None
        network.load_state_dict(before)  # batch statistics may have been taken
        return take_step()
