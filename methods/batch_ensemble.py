"""BatchEnsemble: members that share one weight up to rank-1 factors (Wen et al. 2020, 2002.06715).

W_m = W o (s_m r_m^T) in every layer, stem, shortcuts and classifier included; batch normalisation is shared, the
classifier's bias is each member's own. The batch is tiled: every member sees every image. The loss is the mean over
members, and fast weights are not decayed.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from benchmark.method import Done, Method, ParamGroup, Stage, Task, cross_entropy
from methods.rank1 import FastInit, Rank1Conv2d, Rank1Linear


@dataclass(frozen=True)
class BatchEnsemble(Method):
    num_members: Annotated[int, Field(ge=1, le=100)] = 4
    fast_init: Annotated[
        FastInit, Field(description="fast weights at the start: ±1 (paper) or N(1, 0.5²) (released)")
    ] = "random_sign"
    fast_learning_rate_multiplier: Annotated[
        float, Field(gt=0, description="of r, s and the members' biases; 0.5 in the released code since August 2020")
    ] = 1.0

    def start(self, stage: Stage, task: Task, done: Done) -> nn.Module:
        return task.network(
            conv=partial(Rank1Conv2d, num_members=self.num_members, fast_init=self.fast_init),
            linear=partial(Rank1Linear, num_members=self.num_members, fast_init=self.fast_init),
        )

    def param_groups(self, stage: Stage, network: nn.Module) -> list[ParamGroup]:
        rank1 = [module for module in network.modules() if isinstance(module, Rank1Conv2d | Rank1Linear)]
        fast = [vector for module in rank1 for vector in (module.r, module.s)]
        biases = [module.member_bias for module in rank1 if isinstance(module, Rank1Linear)]
        own = {id(parameter) for parameter in fast + biases}
        shared = [parameter for parameter in network.parameters() if id(parameter) not in own]
        multiplier = self.fast_learning_rate_multiplier
        return [
            ParamGroup(shared),
            ParamGroup(fast, multiplier, weight_decay=0.0),
            ParamGroup(biases, multiplier),
        ]

    def loss(self, network: nn.Module, x_SBCHW: Tensor, y_SBK: Tensor, progress: float) -> Tensor:
        return cross_entropy(network(self._tile(x_SBCHW[0])), y_SBK[0].repeat(self.num_members, 1))

    def predict(self, done: Done, x_BCHW: Tensor) -> Tensor:
        return done["main"](self._tile(x_BCHW)).unflatten(0, (self.num_members, -1))

    def _tile(self, x_BCHW: Tensor) -> Tensor:
        """x_RCHW with R = M·B, member by member."""
        return x_BCHW.repeat(self.num_members, 1, 1, 1)
