"""One network with several distilled heads: the control that tells what exits gain from what distillation gains.

M heads (last normalisation, pooling, linear layer) read the same features of one undivided network and train as the exits
of Network Fission Ensembles do, with cross-entropy and ensemble knowledge distillation. No weight but the heads' is
anyone's own. From no paper.
"""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from benchmark.method import Done, Method, Stage, Task
from methods.distillation import joint_loss
from methods.fission import FissionNetwork


@dataclass(frozen=True)
class DistilledHeads(Method):
    num_members: Annotated[int, Field(ge=1, le=100, description="heads")] = 3
    distillation: Annotated[bool, Field(description="ensemble knowledge distillation; false: cross-entropy alone")] = (
        True
    )
    temperature: Annotated[float, Field(gt=0, description="T of the distillation")] = 3.0

    def start(self, stage: Stage, task: Task, done: Done) -> nn.Module:
        networks = [task.network() for _ in range(self.num_members)]
        return FissionNetwork.of(networks, [1] * len(networks[0].groups))

    def loss(self, network: nn.Module, x_SBCHW: Tensor, y_SBK: Tensor, progress: float) -> Tensor:
        return joint_loss(network(x_SBCHW[0]), y_SBK[0], self.distillation, self.temperature)

    def predict(self, done: Done, x_BCHW: Tensor) -> Tensor:
        return done["main"](x_BCHW)
