"""What makes a network's steps faster than operator by operator, where it is on, and how a stage goes on where it fails."""

import atexit
import contextlib
import copy
import functools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._dynamo.exc import TorchDynamoException

from benchmark.config import Recipe
from benchmark.files import warn
from benchmark.graphs import Recorded


def compiles(recipe: Recipe, device: torch.device) -> bool:
    """Whether a stage's first step takes longer than the others. On a CPU compiling takes longer than small runs last,
    and there are no graphs to record (docs/speed.md)."""
    return device.type == "cuda" if recipe.compile in ("auto", "graphs") else bool(recipe.compile)


def prepare(network: nn.Module, recipe: Recipe, device: torch.device) -> None:
    """Let a network's next calls in training be compiled, or recorded, as a recipe says and a device can."""
    if recipe.compile is True:
        keep_compiled_code_private()
        network.compile(dynamic=False)
    if recipe.compile and device.type == "cuda":
        # A compiled network is recorded too: kernels wait less for each other than for Python.
        network._compiled_call_impl = Recorded(network)
    elif recipe.compile == "graphs":
        warn(f"compile: graphs needs a GPU; on {device} networks are trained without")


def release(network: nn.Module) -> None:
    """Give back the memory that recorded passes hold."""
    if isinstance(network._compiled_call_impl, Recorded):
        network._compiled_call_impl = None


@functools.cache
def keep_compiled_code_private() -> None:
    """Let torch keep compiled code, which it loads and runs unasked, where nobody but this user can write.

    Its own choice, which it writes into the environment, is a folder below /tmp that bears the user's name, and whoever
    makes that first owns it.
    """
    default = str(Path(tempfile.gettempdir()) / "torchinductor_")
    if not os.environ.get("TORCHINDUCTOR_CACHE_DIR", default).startswith(default):
        return
    folder = Path(tempfile.gettempdir()) / f"tutti-compiled-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        own = tempfile.mkdtemp(prefix="tutti-compiled-")
        atexit.register(shutil.rmtree, own, ignore_errors=True)
        warn(f"{folder} is not this user's alone to write: what is compiled is kept in {own} until this process ends")
        folder = Path(own)
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


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
