"""Prune and Tune: children pruned from one trained parent, each tuned briefly (Whitaker & Whitley 2022, 2202.11782).

The parent trains for most of the budget under the study's recipe. Each child copies it, loses a random share of every
convolution's weights and is tuned for an equal part of what is left, with fresh momentum, under a one-cycle schedule
from a hundredth of the learning rate to all of it and down to a millionth. Anti-random children come in pairs with
complementary masks. Classifier, biases and batch normalisation are never masked.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from benchmark.method import Done, Method, OneCycle, Recipe, Stage, Task, cross_entropy
from benchmark.seeding import seeded
from methods.masks import MaskedNetwork, conv_weights, deal, keep_highest, random_scores
from methods.variants import Differs, Source, Variant, chosen

CODE = "tjwhitaker/prune-and-tune-ensembles:src"


@dataclass(frozen=True)
class PruneAndTune(Method):
    num_members: Annotated[int, Field(ge=1, le=100, description="children, with the parent where it is a member")] = 6
    variant: Variant = "paper"
    masks: Annotated[
        Literal["anti_random", "random", "partition"],
        Source(f"paper: anti-random; {CODE}/utils.py:104-131, random: 137-152; partition: Whitaker 2023, 2311.14101"),
        Field(
            description="anti_random: pairs of complementary halves; random: independent; "
            "partition: every weight of the parent in exactly one child"
        ),
    ] = "anti_random"
    sparsity: Annotated[
        float | None,
        Source(f"{CODE}/utils.py:147-149; for anti-random masks it is one half, whatever is asked for: 104-106"),
        Field(gt=0, lt=1, description="share pruned from each layer, for masks: random alone"),
    ] = None
    parent_share: Annotated[
        float,
        Source(f"paper: 140 epochs of 200, then six times 10; {CODE}/train.py:33,47,58"),
        Field(gt=0, lt=1, description="of the epochs; children share the rest equally"),
    ] = 0.7
    parent_is_member: Annotated[
        bool | None,
        Differs(False, True, f"paper: the children; {CODE}/evaluate.py:62-70,101-104 takes the parent's file too"),
        Field(description="whether the dense parent is averaged with its children, as one of num_members"),
    ] = None
    tuning_schedule: Annotated[
        Literal["one_cycle", "constant"],
        Source(f"paper: one cycle; {CODE}/utils.py:161-170, which calls the other fixed"),
        Field(description="a child's learning rate; constant: the recipe's, unchanged"),
    ] = "one_cycle"
    tuning_momentum: Annotated[
        Literal["constant", "cycled"] | None,
        Differs(
            "constant",
            "cycled",
            f"the paper cycles the learning rate; {CODE}/utils.py:163-170 leaves cycle_momentum on",
        ),
        Field(
            description="a child's momentum under one_cycle: the recipe's, or 0.95 to 0.85 and back against the rate"
        ),
    ] = None

    def __post_init__(self) -> None:
        if (self.sparsity is not None) != (self.masks == "random"):
            raise ValueError(
                "prune_and_tune: masks: random needs a sparsity; anti_random (1/2) and partition (1 - 1/M) fix their own"
            )
        if self.num_children == 0:
            raise ValueError("prune_and_tune: with the parent as a member, num_members is at least 2")

    @property
    def num_children(self) -> int:
        return self.num_members - chosen(self, "parent_is_member")

    def stages(self, task: Task, recipe: Recipe) -> list[Stage]:
        learning_rate, momentum = self._tuning(recipe)
        child_epochs = (1 - self.parent_share) * recipe.epochs / self.num_children
        parent = Stage.of(recipe, "parent", epochs=self.parent_share * recipe.epochs)
        children = [
            Stage.of(recipe, f"child-{m}", epochs=child_epochs, learning_rate=learning_rate, momentum=momentum)
            for m in range(self.num_children)
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
        members = [network for name, network in done.items() if name != "parent"]
        # Before the first child exists, the parent stands for it.
        if chosen(self, "parent_is_member") or not members:
            members.append(done["parent"])
        return torch.stack([network(x_BCHW) for network in members])

    def _tuning(self, recipe: Recipe) -> tuple[Callable[[float], float], Callable[[float], float] | None]:
        """A child's learning rate and momentum by progress; None for the recipe's momentum."""
        if self.tuning_schedule == "constant":
            return (lambda _: recipe.learning_rate), None
        rate, opposite = OneCycle(), OneCycle(initial=0.0, final=0.0)
        is_cycled = chosen(self, "tuning_momentum") == "cycled"
        return (
            lambda progress: recipe.learning_rate * rate.factor(progress),
            (lambda progress: 0.95 - 0.1 * opposite.factor(progress)) if is_cycled else None,
        )

    def _keep(self, child: nn.Module, index: int, seed: int) -> dict[str, Tensor]:
        """Masks of one child. Children that belong together draw the same groups and take different ones."""
        weights = conv_weights(child)
        if self.masks == "random":
            assert self.sparsity is not None
            with seeded(seed, "masks", index):
                scores = random_scores(weights)
            keep = {name: keep_highest({name: score}, self.sparsity)[name] for name, score in scores.items()}
            return {name: mask.to(weights[name].device) for name, mask in keep.items()}
        num_groups = 2 if self.masks == "anti_random" else self.num_children
        family, group = divmod(index, num_groups)
        with seeded(seed, "masks", family):
            return {
                name: deal(torch.ones_like(weight, dtype=torch.bool), num_groups) == group
                for name, weight in weights.items()
            }
