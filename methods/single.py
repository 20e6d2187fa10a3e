"""One network: what every ensemble is measured against."""

from dataclasses import dataclass

from torch import Tensor, nn

from benchmark.method import Done, Method, Stage, Task, cross_entropy


@dataclass(frozen=True)
class Single(Method):
    """The study's backbone under the study's recipe."""

    num_members = 1

    def start(self, stage: Stage, task: Task, done: Done) -> nn.Module:
        return task.network()

    def loss(self, network: nn.Module, x_SBCHW: Tensor, y_SBK: Tensor, progress: float) -> Tensor:
        return cross_entropy(network(x_SBCHW[0]), y_SBK[0])

    def predict(self, done: Done, x_BCHW: Tensor) -> Tensor:
        return done["main"](x_BCHW)[None]
