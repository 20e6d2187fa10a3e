"""Deep ensembles: M independently trained networks (Lakshminarayanan et al. 2017, 1612.01474).

p(y | x) = 1/M sum_m softmax(f(x; w_m)), all on the full training set, without adversarial training. Members differ in
initialisation, data order and augmentation.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from benchmark.method import Done, Method, Recipe, Stage, Task, cross_entropy
from benchmark.seeding import seeded


@dataclass(frozen=True)
class DeepEnsemble(Method):
    num_members: Annotated[int, Field(ge=1, le=100)] = 4
    execution: Annotated[
        Literal["sequential", "stacked", "auto"],
        Field(
            description="member after member, or all at once as one batched network; auto: what is faster on the device; "
            "the same members either way"
        ),
    ] = "sequential"

    def forms(self) -> list[Method]:
        if self.execution != "auto":
            return [self]
        return [replace(self, execution="sequential"), replace(self, execution="stacked")]

    def stages(self, task: Task, recipe: Recipe) -> list[Stage]:
        names = tuple(f"member-{m}" for m in range(self.num_members))
        if self.execution == "stacked":
            return [Stage.of(recipe, streams=names)]
        # Where nothing is trained, `auto` is planned as its first form.
        return [Stage.of(recipe, name) for name in names]

    def start(self, stage: Stage, task: Task, done: Done) -> nn.Module:
        members = []
        for name in stage.streams:
            with seeded(task.seed, name, "start"):  # as the trainer seeds a stage of that name
                members.append(task.network())
        return StackedNetworks(members) if self.execution == "stacked" else members[0]

    def loss(self, network: nn.Module, x_SBCHW: Tensor, y_SBK: Tensor, progress: float) -> Tensor:
        if self.execution != "stacked":
            return cross_entropy(network(x_SBCHW[0]), y_SBK[0])
        # A sum over members, not a mean: each member gets the gradient it would get alone.
        logits_MBK = network(x_SBCHW)
        return torch.stack([cross_entropy(z, y) for z, y in zip(logits_MBK, y_SBK, strict=True)]).sum()

    def predict(self, done: Done, x_BCHW: Tensor) -> Tensor:
        if self.execution == "stacked":
            return done["main"](x_BCHW.expand(self.num_members, *x_BCHW.shape))
        return torch.stack([network(x_BCHW) for network in done.values()])


class StackedNetworks(nn.Module):
    """M networks of one architecture as one: every parameter and buffer has a leading axis M. x_MBCHW -> logits_MBK."""

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        params, buffers = stack_module_state(list(members))
        # Module names may not hold dots.
        self.stacked = nn.ParameterDict(
            {name.replace(".", "/"): nn.Parameter(p.detach()) for name, p in params.items()}
        )
        self.buffer_names = list(buffers)
        for name, buffer in buffers.items():
            self.register_buffer(name.replace(".", "/"), buffer)
        # The architecture alone, held where it is neither a submodule nor a parameter of this one.
        self._architecture = (copy.deepcopy(members[0]).to("meta"),)

    def forward(self, x_MBCHW: Tensor) -> Tensor:
        architecture = self._architecture[0].train(self.training)
        params = {name.replace("/", "."): parameter for name, parameter in self.stacked.items()}
        buffers = {name: self.get_buffer(name.replace(".", "/")) for name in self.buffer_names}

        def one(params: dict[str, Tensor], buffers: dict[str, Tensor], x_BCHW: Tensor) -> Tensor:
            return functional_call(architecture, (params, buffers), (x_BCHW,))

        return vmap(one, randomness="different")(params, buffers, x_MBCHW)
