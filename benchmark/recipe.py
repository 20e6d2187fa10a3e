"""How the methods of a study are trained: one recipe for all, strict, deviations by name. No torch."""

from typing import Any, Literal

from pydantic import Field, model_validator

from benchmark.schedules import Schedule, Step
from benchmark.strict import Strict


class Augmentation(Strict):
    """What happens to training images, in this order. Test images are only normalised."""

    crop_padding: int = Field(
        default=4, ge=0, le=256, description="pixels of black around the image before the random crop"
    )
    flip: bool = Field(default=True, description="mirror left to right with probability 1/2")
    cutout: int = Field(
        default=0, ge=0, description="side of the square set to the mean colour (DeVries & Taylor 2017)"
    )
    mixup: float = Field(default=0.0, ge=0, description="Beta parameter of mixup, 0 is off (Zhang et al. 2018)")
    cutmix: float = Field(default=0.0, ge=0, description="Beta parameter of CutMix, 0 is off (Yun et al. 2019)")

    @model_validator(mode="after")
    def _one_mixing(self) -> "Augmentation":
        if self.mixup and self.cutmix:
            raise ValueError("mixup and cutmix can't both be on")
        return self


class Recipe(Strict):
    """How every method of a study is trained: SGD with momentum under one schedule."""

    epochs: float = Field(gt=0, le=1e6, description="passes over the training images")
    budget: Literal["epochs", "training_flops"] = Field(
        default="epochs",
        description="what `epochs` gives every method: as many epochs, or the training FLOPs that a single network "
        "takes for them, so that a method that costs more per image trains fewer",
    )
    batch_size: int = Field(ge=1, description="distinct images per step and stream")
    last_batch: Literal["drop", "keep"] = Field(
        default="drop", description="an epoch's last images, where they are fewer than a batch"
    )
    learning_rate: float = Field(gt=0)
    schedule: Schedule = Step()
    warmup_epochs: float = Field(default=0, ge=0, description="linear warm-up from 0")
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(default=5e-4, ge=0, description="PyTorch's convention: the loss gains (wd/2) sum w²")
    augmentation: Augmentation = Augmentation()
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="bf16 is autocast, weights stay fp32")
    channels_last: bool = True
    compile: bool | Literal["graphs", "auto"] = Field(
        default=False,
        description="graphs: record the network's passes as CUDA graphs; true: compile them by torch.compile, on a GPU "
        "recorded too; auto: graphs on a GPU, nothing elsewhere",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> "Recipe":
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov: true needs a momentum above 0")
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs:g}) must be fewer than epochs ({self.epochs:g})")
        return self


def deviate(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The study's recipe with some fields replaced; raises pydantic's ValidationError."""
    if not changes:
        return recipe
    fields = recipe.model_dump()
    for key, value in changes.items():
        kept = fields.get(key)
        # Of an augmentation, or of a schedule of the same name, what is not named stays.
        merges = isinstance(kept, dict) and isinstance(value, dict) and value.get("name") == kept.get("name")
        fields[key] = kept | value if merges else value
    return Recipe.model_validate(fields)
