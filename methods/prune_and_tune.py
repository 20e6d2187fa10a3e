"""Prune and Tune: children pruned from one trained parent, each tuned briefly (Whitaker & Whitley 2022, 2202.11782).

The parent trains for most of the budget under the study's recipe. Each child copies it, loses a random share of every
convolution's weights and is tuned for an equal part of what is left, with fresh momentum, under a one-cycle schedule
from a hundredth of the learning rate to all of it and down to a millionth. Anti-random children come in pairs with
complementary masks. Classifier, biases and batch normalisation are never masked. Members are the children alone; the
released evaluation averages the parent with them.
"""

import copy
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from benchmark.method import Done, Method, OneCycle, Recipe, Stage, Task, cross_entropy
from benchmark.seeding import seeded
from methods.masks import MaskedNetwork, conv_weights, deal, keep_highest, random_scores


@dataclass(frozen=True)
class PruneAndTune(Method):
    num_members: Annotated[int, Field(ge=1, le=100)] = 6
    masks: Annotated[
        Literal["anti_random", "random", "partition"],
        Field(
            description="anti_random: pairs of complementary halves; random: independent; "
            "partition: every weight of the parent in exactly one child"
        ),
    ] = "anti_random"
    sparsity: Annotated[
        float | None, Field(gt=0, lt=1, description="share pruned from each layer, for masks: random alone")
    ] = None
    parent_share: Annotated[float, Field(gt=0, lt=1, description="of the epochs; children share the rest equally")] = (
        0.7
    )

    def __post_init__(self) -> None:
        if (self.sparsity is not None) != (self.masks == "random"):
            raise ValueError(
                "prune_and_tune: masks: random needs a sparsity; anti_random (1/2) and partition (1 - 1/M) fix their own"
            )

    def stages(self, task: Task, recipe: Recipe) -> list[Stage]:
        # Momentum stays the recipe's; the released code's OneCycleLR also cycles it, 0.95 to 0.85 and back.
        tuning = OneCycle()
        child_epochs = (1 - self.parent_share) * recipe.epochs / self.num_members
        parent = Stage.of(recipe, "parent", epochs=self.parent_share * recipe.epochs)
        children = [
            Stage.of(
                recipe,
                f"child-{m}",
                epochs=child_epochs,
                learning_rate=lambda progress: recipe.learning_rate * tuning.factor(progress),
            )
            for m in range(self.num_members)
        ]
        return [parent, *children]

    def start(self, stage: Stage, task: Task, done: Done) -> nn.Module:
        if stage.name == "parent":
            return task.network()
        child = copy.deepcopy(done["parent"])
        return MaskedNetwork(child, self._keep(child, int(stage.name.removeprefix("child-")), task.seed))

    def loss(self, network: nn.Module, x_SBCHW: Tensor, y_SBK: Tensor, progress: float) -> Tensor:
        return cross_entropy(network(x_SBCHW[0]), y_SBK[0])

    def after_step(self, network: nn.Module, progress: float) -> None:
        if isinstance(network, MaskedNetwork):
            network.zero_pruned()

    def predict(self, done: Done, x_BCHW: Tensor) -> Tensor:
        # Before the first child exists, the parent stands for it.
        children = [network for name, network in done.items() if name != "parent"] or [done["parent"]]
        return torch.stack([child(x_BCHW) for child in children])

    def _keep(self, child: nn.Module, index: int, seed: int) -> dict[str, Tensor]:
        """Masks of one child. Children that belong together draw the same groups and take different ones."""
        weights = conv_weights(child)
        if self.masks == "random":
            assert self.sparsity is not None
            with seeded(seed, "masks", index):
                scores = random_scores(weights)
            keep = {name: keep_highest({name: score}, self.sparsity)[name] for name, score in scores.items()}
            return {name: mask.to(weights[name].device) for name, mask in keep.items()}
        num_groups = 2 if self.masks == "anti_random" else self.num_members
        family, group = divmod(index, num_groups)
        with seeded(seed, "masks", family):
            return {
                name: deal(torch.ones_like(weight, dtype=torch.bool), num_groups) == group
                for name, weight in weights.items()
            }
