"""The contract between the bench and a method.

Shapes: S data streams, M members, B distinct images of a step, R rows through a network (tiled or repeated images),
N images of a split, K classes, CHW one image. A tensor's name ends in its shape where that helps: `logits_MBK`.

A method is a frozen dataclass. Its fields are its options; a study file sets them by name. It knows nothing of
devices, files, logging or optimizers. Its state lives in its networks' parameters and buffers, so checkpoints need no
code of its own, and torch's global generators are seeded before `start` and before every step, so it simply draws.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.config import Recipe as Recipe
from benchmark.networks.backbone import Backbone
from benchmark.schedules import OneCycle as OneCycle
from benchmark.schedules import warmed_up

Done = dict[str, nn.Module]
"""Finished stages by name, in order, each with its network."""


@dataclass(frozen=True)
class Task:
    """What is to be learnt, the same for every method."""

    name: str
    num_classes: int
    image_shape: tuple[int, int, int]
    seed: int
    network: Callable[..., Backbone]
    """The study's backbone, freshly initialised, from the parts passed in: `in_channels`, `num_outputs` (defaults: the
    image's channels, K), `conv`, `norm`, `linear` (defaults: torch's layers)."""
    train_batch: Callable[[int], tuple[Tensor, Tensor]]
    """n training images (all, where there are fewer), augmented and normalised, with labels: x_nCHW float32, y_n int64.
    For scores such as SNIP. Of an image mixed from two, the label is that of the larger part."""


@dataclass(frozen=True)
class Stage:
    """One training run inside a method."""

    name: str
    epochs: float
    batch_size: int
    learning_rate: Callable[[float], float]
    """progress of the stage, 0 to 1, -> learning rate"""
    momentum: Callable[[float], float]
    """progress of the stage -> momentum"""
    nesterov: bool
    weight_decay: float
    streams: tuple[str, ...]
    """Names of independently shuffled and augmented copies of the training data, one x_BCHW each per step. The same
    name gives the same images in the same order."""
    last_batch: Literal["drop", "keep"] = "drop"
    """what becomes of an epoch's last images, where they are fewer than a batch"""

    def steps_per_epoch(self, num_images: int) -> int:
        return -(-num_images // self.batch_size) if self.last_batch == "keep" else num_images // self.batch_size

    def num_steps(self, num_images: int) -> int:
        """Steps of the stage with so many training images."""
        return max(1, round(self.epochs * self.steps_per_epoch(num_images)))

    def images_in(self, num_steps: int, num_images: int) -> int:
        """Images of one stream in the first so many steps."""
        epochs, steps = divmod(num_steps, self.steps_per_epoch(num_images))
        an_epoch = min(self.steps_per_epoch(num_images) * self.batch_size, num_images)
        return epochs * an_epoch + min(steps * self.batch_size, an_epoch)

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        name: str = "main",
        *,
        epochs: float | None = None,
        learning_rate: Callable[[float], float] | None = None,
        momentum: Callable[[float], float] | None = None,
        streams: tuple[str, ...] | None = None,
    ) -> "Stage":
        """A stage that follows the study's recipe but for what is given; by default it has one stream of its own name."""
        epochs = recipe.epochs if epochs is None else epochs

        def follow_recipe(progress: float) -> float:
            warmup = min(recipe.warmup_epochs / epochs, 1.0)
            return recipe.learning_rate * warmed_up(recipe.schedule.factor(progress), progress, warmup)

        return cls(
            name=name,
            epochs=epochs,
            batch_size=recipe.batch_size,
            learning_rate=learning_rate or follow_recipe,
            momentum=momentum or (lambda _: recipe.momentum),
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
            streams=streams or (name,),
            last_batch=recipe.last_batch,
        )


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that train alike. `weight_decay` None is the stage's."""

    params: list[nn.Parameter] = field(repr=False)
    learning_rate_multiplier: float = 1.0
    weight_decay: float | None = None


class Method(ABC):
    """How an ensemble is built, trained and asked. The defaults are one stage, one parameter group, nothing after a step."""

    num_members: int

    @property
    def rows_per_image(self) -> int:
        """Rows that go through the network for each image of a step: more than one where batches repeat or are tiled.

        What a row must say of its training beside FLOPs: networks that see an image four times are no cheaper to train.
        """
        return 1

    def check(self, recipe: Recipe) -> None:
        """Raises ValueError, in one line, where the method with its options can't be trained under a recipe."""
        return

    def forms(self) -> "list[Method]":
        """Ways to train the same members, which differ in time and rounding; the fastest on a device is taken there."""
        return [self]

    def stages(self, task: Task, recipe: Recipe) -> list[Stage]:
        return [Stage.of(recipe)]

    @abstractmethod
    def start(self, stage: Stage, task: Task, done: Done) -> nn.Module:
        """The network that the stage trains. Pruning, scores and copies of finished networks are made here."""

    def param_groups(self, stage: Stage, network: nn.Module) -> list[ParamGroup]:
        return [ParamGroup(list(network.parameters()))]

    @abstractmethod
    def loss(self, network: nn.Module, x_SBCHW: Tensor, y_SBK: Tensor, progress: float) -> Tensor:
        """The scalar that is minimised. Tiling, pairing, mixing and distillation happen in here.

        Targets are probabilities over classes (one-hot but for label smoothing, mixup and CutMix), so that every
        method trains under every recipe without knowing it.
        """

    def after_step(self, network: nn.Module, progress: float) -> None:
        """Called after each optimizer step, without gradients."""
        return

    @abstractmethod
    def predict(self, done: Done, x_BCHW: Tensor) -> Tensor:
        """logits_MBK of the members that the stages in `done` give; at least the first stage is there.

        Before all stages have finished this is what learning curves show.
        """


def cross_entropy(logits_RK: Tensor, targets_RK: Tensor) -> Tensor:
    """Mean over rows of -sum_k t_k log softmax(z)_k, in the precision of the targets: float32, under autocast too."""
    return F.cross_entropy(logits_RK.to(targets_RK.dtype), targets_RK)
