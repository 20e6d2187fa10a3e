"""MIMO: several inputs, several outputs, one network (Havasi et al. 2021, 2010.06610).

The M images of a row are stacked on channels, the head gives M·K logits; everything between is one ordinary network.
In training each member's image is drawn independently and answered for by its own logits; the loss is the mean over
rows of the sum over members. At test time all inputs are the same image.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from benchmark.method import Done, Method, Stage, Task, cross_entropy
from methods.pairing import pair
from methods.variants import Differs, Source, Variant, chosen

SCRIPT = "google/uncertainty-baselines:baselines/cifar/mimo.py"


@dataclass(frozen=True)
class Mimo(Method):
    num_members: Annotated[int, Field(ge=1, le=100)] = 3
    variant: Variant = "paper"
    batch_repetitions: Annotated[
        int,
        Source(f"paper, section 4; {SCRIPT}:36-38,247-248"),
        Field(ge=1, le=100, description="times each image of a batch is used; rows and training cost grow with it"),
    ] = 4
    input_repetition: Annotated[
        float,
        Source(f"paper, section 4; {SCRIPT}:31-33,249-255"),
        Field(ge=0, le=1, description="share of rows in which all members see the same image"),
    ] = 0.0
    pairing_images: Annotated[
        Annotated[int, Field(ge=1)] | Literal["batch"] | None,
        Differs(
            "batch",
            16,
            f"paper: the minibatch; {SCRIPT}:77,241-259 shuffles in each replica, and baselines/cifar/utils.py:71,89 "
            "has 8 of them with 64 rows, 16 images four times",
        ),
        Field(description="images among which rows are paired: all of a batch, or so many in turn"),
    ] = None

    @property
    def rows_per_image(self) -> int:
        return self.batch_repetitions

    def start(self, stage: Stage, task: Task, done: Done) -> nn.Module:
        channels = task.image_shape[0]
        return task.network(in_channels=self.num_members * channels, num_outputs=self.num_members * task.num_classes)

    def loss(self, network: nn.Module, x_SBCHW: Tensor, y_SBK: Tensor, progress: float) -> Tensor:
        x_BCHW, y_BK = x_SBCHW[0], y_SBK[0]
        within = chosen(self, "pairing_images")
        indices_MR = pair(
            len(x_BCHW),
            self.num_members,
            self.batch_repetitions,
            self.input_repetition,
            x_BCHW.device,
            within=None if within == "batch" else within,
        )
        logits_RMK = self._forward(network, x_BCHW[indices_MR.T].flatten(1, 2))
        # Mean over the R·M rows times M: the sum over members.
        return cross_entropy(logits_RMK.flatten(0, 1), y_BK[indices_MR.T].flatten(0, 1)) * self.num_members

    def predict(self, done: Done, x_BCHW: Tensor) -> Tensor:
        return self._forward(done["main"], x_BCHW.repeat(1, self.num_members, 1, 1)).transpose(0, 1)

    def _forward(self, network: nn.Module, x_RCHW: Tensor) -> Tensor:
        """Stacked inputs with M times the channels -> logits_RMK."""
        return network(x_RCHW).unflatten(1, (self.num_members, -1))
