"""BatchEnsemble: members that share one weight up to rank-1 factors (Wen et al. 2020, 2002.06715).

W_m = W o (s_m r_m^T) in every layer, stem, shortcuts and classifier included; batch normalisation is shared, biases are
each member's own. A batch is split among the members, or tiled, so that every member sees every
image at M times the cost. The loss is the mean over rows, hence over members.
"""

from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from benchmark.method import Done, Method, ParamGroup, Recipe, Stage, Task, cross_entropy
from methods.rank1 import FastInit, Rank1Conv2d, Rank1Linear
from methods.variants import Differs, Source, Variant, chosen

SCRIPT = "google/uncertainty-baselines:baselines/cifar/batchensemble.py"
NETWORK = "google/uncertainty-baselines:uncertainty_baselines/models/wide_resnet_batchensemble.py"


@dataclass(frozen=True)
class BatchEnsemble(Method):
    num_members: Annotated[int, Field(ge=1, le=100)] = 4
    variant: Variant = "paper"
    batches: Annotated[
        Literal["split", "tiled"] | None,
        Differs("split", "tiled", f"paper: a sub-batch for each member; {SCRIPT}:60-62,237-238"),
        Field(description="split: each member sees its own B/M images of a batch; tiled: every member sees all B"),
    ] = None
    fast_init: Annotated[
        FastInit | None,
        Differs("random_sign", "normal", f"paper: random signs; {SCRIPT}:32, {NETWORK}:39-44"),
        Field(description="r and s at the start: ±1 with equal chance, or N(1, 0.5²)"),
    ] = None
    fast_learning_rate_multiplier: Annotated[
        Annotated[float, Field(gt=0)] | None,
        Differs(1.0, 0.5, f"the paper has none; {SCRIPT}:34-35, 1.0 before commit fbd3189f of August 2020"),
        Field(description="factor of the learning rate of what is slowed"),
    ] = None
    slowed: Annotated[
        Literal["fast_weights", "fast_weights_and_biases"] | None,
        Differs("fast_weights", "fast_weights_and_biases", f"{SCRIPT}:263-266 picks by name, neither kernel nor norm"),
        Field(description="what the multiplier slows: r and s, or the members' biases with them"),
    ] = None
    decay_fast_weights: Annotated[
        bool,
        Source(
            f"neither in the paper nor in {NETWORK}:66-82; ENSTA-U2IS-AI/torch-uncertainty:experiments/classification/"
            "cifar10/configs/wideresnet28x10/batched.yaml decays all parameters"
        ),
        Field(description="decay r and s like all weights"),
    ] = False

    @property
    def rows_per_image(self) -> int:
        return self.num_members if chosen(self, "batches") == "tiled" else 1

    def check(self, recipe: Recipe) -> None:
        if chosen(self, "batches") == "split" and recipe.batch_size % self.num_members:
            raise ValueError(
                f"batch_ensemble: a batch of {recipe.batch_size} can't be split among {self.num_members} members alike; "
                f"choose a batch_size that num_members divides, or batches: tiled"
            )

    def start(self, stage: Stage, task: Task, done: Done) -> nn.Module:
        fast_init = chosen(self, "fast_init")
        return task.network(
            conv=partial(Rank1Conv2d, num_members=self.num_members, fast_init=fast_init),
            linear=partial(Rank1Linear, num_members=self.num_members, fast_init=fast_init),
        )

    def param_groups(self, stage: Stage, network: nn.Module) -> list[ParamGroup]:
        rank1 = [module for module in network.modules() if isinstance(module, Rank1Conv2d | Rank1Linear)]
        fast = [vector for module in rank1 for vector in (module.r, module.s)]
        biases = [module.member_bias for module in rank1 if module.member_bias is not None]
        own = {id(parameter) for parameter in fast + biases}
        shared = [parameter for parameter in network.parameters() if id(parameter) not in own]
        multiplier = chosen(self, "fast_learning_rate_multiplier")
        return [
            ParamGroup(shared),
            ParamGroup(fast, multiplier, weight_decay=None if self.decay_fast_weights else 0.0),
            ParamGroup(biases, multiplier if chosen(self, "slowed") == "fast_weights_and_biases" else 1.0),
        ]

    def loss(self, network: nn.Module, x_SBCHW: Tensor, y_SBK: Tensor, progress: float) -> Tensor:
        x_RCHW, y_RK = x_SBCHW[0], y_SBK[0]
        if chosen(self, "batches") == "tiled":
            x_RCHW, y_RK = self._tile(x_RCHW), y_RK.repeat(self.num_members, 1)
        return cross_entropy(network(x_RCHW), y_RK)

    def predict(self, done: Done, x_BCHW: Tensor) -> Tensor:
        return done["main"](self._tile(x_BCHW)).unflatten(0, (self.num_members, -1))

    def _tile(self, x_BCHW: Tensor) -> Tensor:
        """x_RCHW with R = M·B, member by member."""
        return x_BCHW.repeat(self.num_members, 1, 1, 1)
