"""Learning-rate schedules: progress through a stage, 0 to 1, to a factor of the stage's learning rate. No torch.

Each schedule is a strict model, so that a study file names it and its numbers: `schedule: {name: cosine}`.
"""

import bisect
import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from benchmark.strict import Strict

Share = Annotated[float, Field(ge=0, le=1)]


class Constant(Strict):
    name: Literal["constant"] = "constant"

    def factor(self, progress: float) -> float:
        return 1.0


class Step(Strict):
    """Multiply by `gamma` at each milestone (He et al. 2016; x 0.2 at 30, 60, 80 % in Zagoruyko & Komodakis 2016)."""

    name: Literal["step"] = "step"
    milestones: list[Share] = Field(default=[0.3, 0.6, 0.8], description="shares of the training at which to multiply")
    gamma: float = Field(default=0.2, gt=0, le=1)

    @model_validator(mode="after")
    def _milestones_increase(self) -> "Step":
        if sorted(set(self.milestones)) != self.milestones:
            raise ValueError(f"milestones must increase, not {self.milestones}")
        return self

    def factor(self, progress: float) -> float:
        return self.gamma ** bisect.bisect_right(self.milestones, progress)


class Cosine(Strict):
    """Half a cosine from 1 to `final` (Loshchilov & Hutter 2017, without restarts)."""

    name: Literal["cosine"] = "cosine"
    final: Share = 0.0

    def factor(self, progress: float) -> float:
        return _cosine(1.0, self.final, progress)


class OneCycle(Strict):
    """Half a cosine up from `initial` to 1 over the first `peak_at`, half a cosine down to `final`.

    The tuning schedule of Prune-and-Tune: 0.001 -> 0.1 over the first tenth, then to 1e-7 (Smith & Topin 2018 for
    the idea; the cosine form is that of torch.optim.lr_scheduler.OneCycleLR).
    """

    name: Literal["one_cycle"] = "one_cycle"
    initial: Share = 0.01
    peak_at: float = Field(default=0.1, gt=0, lt=1)
    final: Share = 1e-6

    def factor(self, progress: float) -> float:
        if progress < self.peak_at:
            return _cosine(self.initial, 1.0, progress / self.peak_at)
        return _cosine(1.0, self.final, (progress - self.peak_at) / (1 - self.peak_at))


class ConstantThenLinear(Strict):
    """1 until `constant_until`, linear down to `final` at `linear_until`, then constant.

    With the defaults the schedule of NFE, Prune-and-Tune, FGE and SWAG (Garipov et al. 2018).
    """

    name: Literal["constant_then_linear"] = "constant_then_linear"
    constant_until: Share = 0.5
    linear_until: Share = 0.9
    final: Share = 0.01

    @model_validator(mode="after")
    def _ends_increase(self) -> "ConstantThenLinear":
        if self.constant_until >= self.linear_until:
            raise ValueError(f"linear_until must come after constant_until ({self.constant_until})")
        return self

    def factor(self, progress: float) -> float:
        done = (progress - self.constant_until) / (self.linear_until - self.constant_until)
        return 1.0 - (1.0 - self.final) * min(max(done, 0.0), 1.0)


Schedule = Annotated[Constant | Step | Cosine | OneCycle | ConstantThenLinear, Field(discriminator="name")]


def _cosine(start: float, end: float, progress: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


def warmed_up(factor: float, progress: float, warmup: float) -> float:
    """A schedule's factor, scaled up linearly from 0 over the first `warmup` share of the training (Goyal et al. 2017)."""
    return factor * min(progress / warmup, 1.0) if warmup > 0 else factor
