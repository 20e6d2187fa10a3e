"""The one training loop. It knows stages, losses and clocks; what an ensemble is, it leaves to the method.

Nothing is drawn from a generator that outlives a step, so a run that is killed at any moment and started again ends
with the weights, bit for bit on a CPU, of one that was not.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmark import checkpoint
from benchmark.compiling import compile_or_not, compiles, prepare, release
from benchmark.config import Run
from benchmark.cost import Clock, FlopCounter, loss_flops
from benchmark.data.load import Split, TaskData
from benchmark.data.stream import Stream
from benchmark.errors import UserError
from benchmark.evaluate import Predictor
from benchmark.ledger import Ledger
from benchmark.method import Done, Method, Stage
from benchmark.plan import Images, planned_stages
from benchmark.progress import Progress
from benchmark.seeding import derive, seed_device, seeded
from benchmark.task import make_task

MONITORED_IMAGES = 1000
STEPS_BETWEEN_READS = {"cpu": 1, "cuda": 128}
"""Steps after which the loss is read. Reading lets a GPU run dry for some milliseconds, and costs a CPU nothing."""


class NonFiniteLossError(Exception):
    """Training diverged."""


class Stopped(Exception):
    """Asked to stop; the checkpoint on disk goes on from here."""


class Trainer:
    """Trains the stages of one run in `folder`, from wherever an earlier process left them."""

    def __init__(
        self,
        run: Run,
        method: Method,
        data: TaskData,
        folder: Path,
        device: torch.device,
        checkpoint_seconds: float = 120.0,
        report: Callable[[Progress], None] = lambda _: None,
        should_stop: Callable[[], bool] = lambda: False,
    ):
        self.run, self.method, self.data, self.folder, self.device = run, method, data, folder, device
        self.recipe, self.compiles = run.recipe, compiles(run.recipe, device)
        self.checkpoint_seconds, self.report, self.should_stop = checkpoint_seconds, report, should_stop
        self.predictor = Predictor(method, data, device, self.recipe.precision, self.recipe.channels_last)
        watched = data.validation if len(data.validation) else data.train
        self.monitored = Split(watched.images_NHWC[:MONITORED_IMAGES], watched.labels_N[:MONITORED_IMAGES])
        self.ledger = Ledger()
        self.clock = Clock(device)
        self.task = make_task(run, data.num_classes, data.image_shape, device, self._train_batch)
        self.images = Images(len(data.train), data.image_shape, data.num_classes)
        self.stages = planned_stages(run, method, self.task, self.images)

    def fit(self) -> Done:
        """Train what is left of all stages. Raises NonFiniteLossError, Stopped, and OSError where it can't write."""
        done: Done = {}
        for stage in self.stages:
            path = self.folder / "weights" / f"{stage.name}.state"
            network = self._started(stage, done)
            state = self._load(path)
            if state is not None and self._fits(path, {"stage": stage.name} | state, stage, network):
                network.load_state_dict(state["network"])
                self._restore(state["ledger"])
            else:
                self._train_stage(stage, network, done)
                with self.clock.section("checkpoint"):
                    checkpoint.save(path, self._state(network) | {"stage": stage.name})
                (self.folder / "checkpoint.state").unlink(missing_ok=True)
            release(network)
            done[stage.name] = network.eval()
        self.ledger.write_history(self.folder)  # whatever became of an earlier process's
        return done

    def stream(self, name: str, batch_size: int) -> Stream:
        """Training batches of one stream; the same for the same run seed and name."""
        return Stream(
            self.data.train,
            augmentation=self.recipe.augmentation,
            label_smoothing=self.recipe.label_smoothing,
            num_classes=self.data.num_classes,
            mean_C=self.data.mean_C,
            std_C=self.data.std_C,
            batch_size=batch_size,
            seed=self.run.seed,
            name=name,
            device=self.device,
            channels_last=self.recipe.channels_last,
            last_batch=self.recipe.last_batch,
        )

    def _train_batch(self, num_images: int) -> tuple[Tensor, Tensor]:
        x_BCHW, y_BK = self.stream("train_batch", min(num_images, len(self.data.train))).batch(0)
        return x_BCHW, y_BK.argmax(-1)

    def _started(self, stage: Stage, done: Done) -> nn.Module:
        """The stage's network as the method starts it; drawn alike every time."""
        with seeded(self.run.seed, stage.name, "start"), FlopCounter() as counter, self.clock.section("train"):
            network = self.method.start(stage, self.task, done).to(self.device)
        # Scores such as SNIP's take a forward and a backward pass.
        self.ledger.training_flops += 3 * counter.executed
        self.ledger.training_flops_nonzero += 3 * round(counter.nonzero)
        prepare(network, self.recipe, self.device)
        return network.train()

    def _train_stage(self, stage: Stage, network: nn.Module, done: Done) -> None:
        optimizer = self._optimizer(stage, network)
        flops = loss_flops(self.method, network, self.task, stage)  # of the weights it starts from, resumed or not
        first_step = self._resume(stage, network, optimizer)
        streams = [self.stream(name, stage.batch_size) for name in stage.streams]
        num_images = len(self.data.train)
        total, first_image = stage.num_steps(num_images), stage.images_in(first_step, num_images)
        steps_per_epoch = streams[0].steps_per_epoch
        chunk = STEPS_BETWEEN_READS[self.device.type]
        begun = saved_at = time.monotonic()
        for steps in _chunks(first_step, total, steps_per_epoch, chunk, first_alone=self.compiles):
            compiling = self.compiles and steps.start == first_step
            with self.clock.section("compile" if compiling else "train"):
                loss = torch.zeros((), device=self.device)
                for step in steps:
                    take_step = partial(self._step, stage, network, optimizer, streams, step, step / total)
                    loss += compile_or_not(take_step, network, stage.name) if compiling else take_step()
                summed_loss = loss.item()
            if not math.isfinite(summed_loss):
                raise NonFiniteLossError(
                    f"loss became {summed_loss} in stage {stage.name}, step {steps.stop} of {total}"
                )
            seen = stage.images_in(steps.stop, num_images)  # a kept last batch has fewer
            images = seen - stage.images_in(steps.start, num_images)
            self.ledger.training_flops += 3 * flops.executed * images // stage.batch_size
            self.ledger.training_flops_nonzero += 3 * round(flops.nonzero) * images // stage.batch_size
            self.ledger.images_seen += images * len(streams)
            self.ledger.epoch_loss += summed_loss
            if steps.stop % steps_per_epoch == 0 or steps.stop == total:
                self._end_epoch(stage, network, done, steps.stop, steps_per_epoch)
            rate = (seen - first_image) * len(streams) / (time.monotonic() - begun)
            self._report(stage, steps.stop, total, steps_per_epoch, rate)
            asked_to_stop = self.should_stop()
            if asked_to_stop or (steps.stop < total and time.monotonic() - saved_at >= self.checkpoint_seconds):
                with self.clock.section("checkpoint"):
                    state = self._state(network) | {"stage": stage.name, "step": steps.stop}
                    checkpoint.save(self.folder / "checkpoint.state", state | {"optimizer": optimizer.state_dict()})
                saved_at = time.monotonic()
            if asked_to_stop:
                raise Stopped

    def _step(
        self,
        stage: Stage,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        streams: list[Stream],
        step: int,
        progress: float,
    ) -> Tensor:
        """One step; the detached loss."""
        batches = [stream.batch(step) for stream in streams]
        x_SBCHW = torch.stack([x for x, _ in batches]) if len(batches) > 1 else batches[0][0][None]
        y_SBK = torch.stack([y for _, y in batches])
        for group in optimizer.param_groups:
            group["lr"] = stage.learning_rate(progress) * group["learning_rate_multiplier"]
            group["momentum"] = stage.momentum(progress)
        seed_device(derive(self.run.seed, stage.name, "step", step), self.device)
        optimizer.zero_grad(set_to_none=True)  # before activations are there, not beside them
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            loss = self.method.loss(network, x_SBCHW, y_SBK, progress)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            self.method.after_step(network, progress)
        return loss.detach()

    def _optimizer(self, stage: Stage, network: nn.Module) -> torch.optim.Optimizer:
        groups = self.method.param_groups(stage, network)
        grouped = [id(parameter) for group in groups for parameter in group.params]
        assert sorted(grouped) == sorted(map(id, network.parameters())), "each parameter belongs to one group"
        return torch.optim.SGD(
            [
                {
                    "params": group.params,
                    "learning_rate_multiplier": group.learning_rate_multiplier,
                    "weight_decay": stage.weight_decay if group.weight_decay is None else group.weight_decay,
                }
                for group in groups
            ],
            lr=stage.learning_rate(0.0),
            momentum=stage.momentum(0.0),
            nesterov=stage.nesterov,
            fused=True,
        )

    def _end_epoch(self, stage: Stage, network: nn.Module, done: Done, step: int, steps_per_epoch: int) -> None:
        so_far = {**done, stage.name: network}
        with self.clock.section("evaluation"):
            accuracy = self.predictor.accuracy(so_far, self.monitored)
            watched = self.predictor.accuracies(so_far, self.data.test) if self.run.task.watch_test else {}
        epoch = -(-step // steps_per_epoch)
        self.ledger.history.append(
            {
                "stage": stage.name,
                "epoch": epoch,
                "loss": self.ledger.epoch_loss / (step - (epoch - 1) * steps_per_epoch),
                "accuracy": accuracy,
                "monitored": "validation" if len(self.data.validation) else "train",
                "train_seconds": round(self.clock.seconds["train"], 3),
                **{f"test/{pooling}/accuracy": share for pooling, share in watched.items()},
            }
        )
        self.ledger.epoch_loss = 0.0
        self.ledger.write_history(self.folder)

    def _report(self, stage: Stage, step: int, total: int, steps_per_epoch: int, images_per_second: float) -> None:
        ended = self.ledger.history[-1] if self.ledger.history else None
        within = step % steps_per_epoch
        epoch_ended = within == 0 or step == total
        steps_of = [each.num_steps(len(self.data.train)) for each in self.stages]
        share = (sum(steps_of[: self.stages.index(stage)]) + step) / sum(steps_of)
        spent = sum(self.clock.seconds.values())
        self.report(
            Progress(
                stage=stage.name,
                epoch=-(-step // steps_per_epoch),
                num_epochs=-(-total // steps_per_epoch),
                share=share,
                loss=ended["loss"] if ended and epoch_ended else self.ledger.epoch_loss / within,
                accuracy=ended["accuracy"] if ended else None,
                images_per_second=images_per_second,
                seconds_left=spent / share - spent,
                epoch_ended=epoch_ended,
            )
        )

    def _state(self, network: nn.Module) -> dict[str, Any]:
        self.ledger.seconds, self.ledger.joules = dict(self.clock.seconds), self.clock.joules
        return {
            "key": self.run.key,
            "data": self.data.fingerprint,
            "network": network.state_dict(),
            "ledger": asdict(self.ledger),
        }

    def _load(self, path: Path) -> dict[str, Any] | None:
        state = checkpoint.load(path, key=self.run.key, device=self.device)
        if state is not None and state.get("data", self.data.fingerprint) != self.data.fingerprint:
            raise UserError(f"{path}: trained on other images than {self.run.task.dataset} holds now; move it away")
        return state

    def _fits(self, path: Path, state: dict[str, Any], stage: Stage, network: nn.Module, **more: Any) -> bool:
        like = self._state(network) | {"stage": stage.name} | more
        like["ledger"]["history"] = []
        return checkpoint.fits(path, state, like)

    def _restore(self, ledger: dict[str, Any]) -> None:
        self.ledger = Ledger(**ledger)
        self.clock = Clock(self.device, self.ledger.seconds, self.ledger.joules)

    def _resume(self, stage: Stage, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Load the checkpoint of this stage, if there is one; the step to go on with."""
        path = self.folder / "checkpoint.state"
        state = self._load(path)
        if state is None or state.get("stage") != stage.name:
            return 0
        if not self._fits(path, state, stage, network, step=0, optimizer=optimizer.state_dict()):
            return 0
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        self._restore(state["ledger"])
        return int(state["step"])


def _chunks(first: int, total: int, steps_per_epoch: int, size: int, first_alone: bool) -> Iterator[range]:
    """Ranges of steps from `first` to `total` that end at epochs' ends and at multiples of `size` within an epoch."""
    start = first
    while start < total:
        within = start % steps_per_epoch
        stop = start - within + min(within - within % size + size, steps_per_epoch)
        if first_alone and start == first:
            stop = start + 1
        yield range(start, min(stop, total))
        start = min(stop, total)
