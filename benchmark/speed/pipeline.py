"""Training batches alone: the bench's stream beside torchvision's transforms in a DataLoader."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmark.data.images import Split
from benchmark.data.load import TaskData
from benchmark.speed.bench import Bench, Row
from benchmark.timing import Spread, in_turns, times_as_long

NUM_IMAGES = 5_000
NUM_WORKERS = (0, 2)


class PilImages(Dataset[tuple[Tensor, int]]):
    """Images as torchvision's data sets hand them over: a PIL image made from an array, then transforms."""

    def __init__(self, data: TaskData, split: Split, padding: int):
        self.images_NHWC, self.labels = split.images_NHWC.numpy(), split.labels_N.tolist()
        size = self.images_NHWC.shape[1:3]
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(size, padding),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(data.mean_C, data.std_C),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images_NHWC[index].squeeze())), self.labels[index]


def pipeline(bench: Bench) -> Iterator[Row]:
    """An epoch of a few thousand images per turn; workers are started before and idle while others have their turn."""
    subject = bench.subjects[0]
    batch_size = subject.run.recipe.batch_size
    data, train = subject.data, subject.data.train
    few = Split(train.images_NHWC[:NUM_IMAGES], train.labels_N[:NUM_IMAGES])
    num_batches = len(few) // batch_size
    stream = subject.trainer.stream("main", batch_size)

    def resident() -> None:
        for step in range(num_batches):
            stream.batch(step)

    ways: dict[str, Callable[[], object]] = {"stream": resident}
    for num_workers in NUM_WORKERS:
        loader = DataLoader(
            PilImages(data, few, subject.run.recipe.augmentation.crop_padding),
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=bench.device.type == "cuda",
        )
        ways[f"torchvision, {num_workers} workers"] = _through(loader, bench.device)
    # By the wall clock: workers are other processes.
    seconds = in_turns(ways, bench.rounds)
    for name, spent in seconds.items():
        yield {
            "name": name,
            "images_per_second": Spread.of(spent).inverse(num_batches * batch_size),
            "time_of_stream": times_as_long(spent, seconds["stream"]),
        }


def _through(loader: DataLoader[Any], device: torch.device) -> Callable[[], None]:
    def epoch() -> None:
        for x_BCHW, y_B in loader:
            x_BCHW.to(device, non_blocking=True), y_B.to(device, non_blocking=True)

    return epoch
