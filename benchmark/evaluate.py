"""Every split predicted once, by the trained networks, into float32 member logits; scores are computed from those."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
from torch import Tensor

from benchmark.data.load import Split, TaskData
from benchmark.data.stream import normalise
from benchmark.method import Done, Method
from benchmark.metrics.accuracy import accuracy
from benchmark.metrics.pooling import POOLINGS, pool
from benchmark.store import write_atomically

BATCH_SIZE = 512


class Predictor:
    """Member logits of any images, under a run's normalisation and precision."""

    def __init__(self, method: Method, data: TaskData, device: torch.device, precision: str, channels_last: bool):
        self.method, self.data, self.device = method, data, device
        self.precision = precision
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def images(self, split: Split, start: int, stop: int) -> Tensor:
        """Normalised images x_BCHW of a split, on the device."""
        images_BHWC = split.images_NHWC[start:stop].to(self.device, non_blocking=True)
        x_BCHW = normalise(images_BHWC, self.data.mean_C, self.data.std_C)
        return x_BCHW.contiguous(memory_format=self.memory_format)

    @torch.no_grad()
    def __call__(self, done: Done, x_BCHW: Tensor) -> Tensor:
        """logits_MBK of networks in evaluation mode."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.method.predict(done, x_BCHW)

    def logits(self, done: Done, split: Split) -> Tensor:
        """logits_MNK, float32, on the CPU."""
        with in_eval_mode(done):
            starts = range(0, len(split), BATCH_SIZE)
            batches = [self(done, self.images(split, start, start + BATCH_SIZE)).float() for start in starts]
        return torch.cat(batches, dim=1).cpu()

    def accuracy(self, done: Done, split: Split) -> float:
        """Share of images that the mean of probabilities classifies correctly."""
        p_NK = self.logits(done, split).softmax(-1).mean(0)
        return (p_NK.argmax(-1) == split.labels_N).double().mean().item()

    def accuracies(self, done: Done, split: Split) -> dict[str, float]:
        """By pooling, as a run is scored."""
        logits_MNK, labels_N = self.logits(done, split).numpy(), split.labels_N.numpy()
        return {pooling: accuracy(pool(logits_MNK, pooling), labels_N) for pooling in POOLINGS}

    def all_splits(self, done: Done) -> dict[str, npt.NDArray[np.float32]]:
        """Logits of every split that a run is scored on."""
        return {name: self.logits(done, split).numpy() for name, split in self._splits()}

    def _splits(self) -> Iterator[tuple[str, Split]]:
        """One after the other: corrupted sets are made when their turn comes, and not kept."""
        yield "test", self.data.test
        if len(self.data.validation):
            yield "validation", self.data.validation
        for name, split in self.data.shifted.items():
            yield f"shifted/{name}", split
        for name, split in self.data.out_of_distribution.items():
            yield f"out_of_distribution/{name}", split


@contextmanager
def in_eval_mode(done: Done) -> Iterator[None]:
    modes = {name: network.training for name, network in done.items()}
    for network in done.values():
        network.eval()
    try:
        yield
    finally:
        for name, network in done.items():
            network.train(modes[name])


def labels_of(data: TaskData) -> dict[str, npt.NDArray[np.int64]]:
    """Labels of the splits that have some, by the names of `Predictor.all_splits`."""
    labels = {"test": data.test.labels_N} | {f"shifted/{name}": data.test.labels_N for name in data.shifted}
    if len(data.validation):
        labels["validation"] = data.validation.labels_N
    return {name: labels_N.numpy() for name, labels_N in labels.items()}


def write_logits(
    path: Path, logits: dict[str, npt.NDArray[np.float32]], labels: dict[str, npt.NDArray[np.int64]]
) -> None:
    """One safetensors file: `<split>/logits` [M, N, K] float32 and `<split>/labels` [N] int64. Raises OSError."""
    arrays: dict[str, np.ndarray] = {f"{name}/logits": np.ascontiguousarray(array) for name, array in logits.items()}
    arrays |= {f"{name}/labels": array for name, array in labels.items() if not name.startswith("shifted/")}
    content = safetensors.numpy.save(arrays)
    write_atomically(path, lambda file: file.write(content))
