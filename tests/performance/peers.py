"""Training steps of this bench beside those of other people's code: same network, rows, members and arithmetic.

examples:
    python tests/performance/peers.py                                    # torch-uncertainty, where it is installed
    python tests/performance/peers.py --mixmo ~/mixmo-pytorch --nfe ~/NFE
    OMP_NUM_THREADS=1 python tests/performance/peers.py --clock cpu --threads 1 --rounds 25 --json

Nothing of theirs is part of this project: pip install torch-uncertainty; git clone https://github.com/alexrame/mixmo-pytorch
(and pip install easydict coloredlogs verboselogs) and https://github.com/hjdw2/NFE. They run as released, NCHW and with
torch's default optimizer, on batches that our stream made and that count as nothing for them; our step is the trainer's,
stream included. Ways are measured in turns; a ratio is a median of rounds, in brackets the middle half of them. Above 1,
ours is faster.
"""

import argparse
import contextlib
import importlib
import io
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark import options
from benchmark.allocator import keep_freed_memory
from benchmark.config import Study
from benchmark.cost import FlopCounter
from benchmark.errors import UserError, exit_code
from benchmark.machine import positive
from benchmark.networks import NETWORKS
from benchmark.speed.bench import Bench, Row
from benchmark.speed.subject import Driven, subjects
from benchmark.timing import Spread, times_as_long
from methods import METHODS

NUM_CLASSES = 100
Step = Callable[[], object]


class Peer:
    """One method of someone else's: a step and its network, for counting its arithmetic."""

    def __init__(self, name: str, step: Step, forward: Step):
        self.name, self.step, self.forward = name, step, forward

    def flops(self) -> int:
        with torch.no_grad(), FlopCounter() as counter:
            self.forward()
        return counter.executed


def main() -> int:
    arguments = _parser().parse_args()
    logging.disable(logging.WARNING)  # theirs say what they make
    if arguments.keep_memory:
        keep_freed_memory()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    found: list[Row] = []
    for name in arguments.only:
        found += COMPARISONS[name](arguments)
    if arguments.json:
        print(json.dumps(found, indent=1, default=asdict))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixmo", type=Path, help="a checkout of alexrame/mixmo-pytorch")
    parser.add_argument("--nfe", type=Path, help="a checkout of hjdw2/NFE")
    parser.add_argument("--depth", type=positive, default=10, help="of the wide residual network (default: 10)")
    parser.add_argument("--width", type=positive, default=2, help="of the wide residual network (default: 2)")
    parser.add_argument("--rows", type=positive, default=128, help="that go through a network per step (default: 128)")
    parser.add_argument("--rounds", type=positive, default=11, help="measurements of each way (default: 11)")
    parser.add_argument("--threads", type=positive, help="CPU threads (default: torch's)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="default: wall")
    parser.add_argument("--keep-memory", action="store_true", help="keep freed memory for both, as our runs do")
    parser.add_argument("--only", nargs="+", choices=COMPARISONS, default=list(COMPARISONS), help="default: all")
    parser.add_argument("--json", action="store_true", help="print one JSON array")
    return parser


def compare(
    arguments: argparse.Namespace, method: dict[str, Any], rows_per_image: int, make_peer: Callable[..., Peer]
) -> Iterator[Row]:
    """`make_peer` takes our driven stage and one of its batches, x_BCHW in NCHW and labels y_B."""
    content = {
        "name": "peers",
        "tasks": [{"dataset": "cifar100", "network": _network(arguments)}],
        "recipe": {"epochs": 200, "batch_size": arguments.rows // rows_per_image, "learning_rate": 0.1},
        "methods": [{"method": "single", "recipe": {"batch_size": arguments.rows}}, method],
        "seeds": [0],
    }
    study = options.resolve(Study.model_validate(content), METHODS, NETWORKS)
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory(prefix="peers-") as folder:
        single, ours = subjects(study, Path(folder), device)
        [driven], [one] = ours.driven, single.driven
        x_BCHW, y_BK = driven.streams[0].batch(0)
        peer = make_peer(driven, x_BCHW.contiguous(), y_BK.argmax(1))
        bench = Bench([ours], device, arguments.rounds, 1, arguments.clock)
        ways: dict[str, Step] = {"ours": driven.step, "theirs": peer.step, "single": one.step}
        seconds = bench.in_turns(ways)
    row = {
        "name": f"{ours.name} beside {peer.name}",
        "times_as_fast": times_as_long(seconds["theirs"], seconds["ours"]),
        "ours_ms": Spread.of(seconds["ours"]) * 1000,
        "theirs_ms": Spread.of(seconds["theirs"]) * 1000,
        "flops_of_theirs": driven.flops / peer.flops(),
        "ours_by_single": times_as_long(seconds["ours"], seconds["single"]),
        "theirs_by_single": times_as_long(seconds["theirs"], seconds["single"]),
    }
    if not arguments.json:
        values = (f"{value:.3f}" if isinstance(value, float) else value for value in row.values())
        print("  ".join(f"{key} {value}" for key, value in zip(row, values, strict=True)), flush=True)
    yield row


def _network(arguments: argparse.Namespace) -> dict[str, Any]:
    """All peers' networks have the stride in a block's second convolution."""
    return {"name": "wide_resnet", "depth": arguments.depth, "width": arguments.width, "stride_in": "second"}


def _sgd(network: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)


def batch_ensemble(arguments: argparse.Namespace) -> Iterator[Row]:
    """Tiled batches, so that as many images are drawn; four members."""
    batched = _torch_uncertainty("models.classification.wideresnet.batched")
    if batched is None:
        return
    styles = importlib.import_module("torch_uncertainty.models.classification.resnet.utils")

    def make(driven: Driven, x_BCHW: Tensor, y_B: Tensor) -> Peer:
        network = batched._BatchWideResNet(
            depth=arguments.depth, widen_factor=arguments.width, in_channels=3, num_classes=NUM_CLASSES,
            num_estimators=4, conv_bias=False, dropout_rate=0.0, style=styles.ResNetStyle.CIFAR, repeat_strategy="legacy",
        )  # fmt: skip
        return _plain("torch-uncertainty", network.train(), x_BCHW, y_B.repeat(4))

    yield from compare(arguments, {"method": "batch_ensemble", "num_members": 4, "batches": "tiled"}, 4, make)


def mimo_of_torch_uncertainty(arguments: argparse.Namespace) -> Iterator[Row]:
    module = _torch_uncertainty("models.classification.wideresnet.mimo")
    if module is None:
        return
    styles = importlib.import_module("torch_uncertainty.models.classification.resnet.utils")

    def make(driven: Driven, x_BCHW: Tensor, y_B: Tensor) -> Peer:
        network = module._MIMOWideResNet(
            depth=arguments.depth, widen_factor=arguments.width, in_channels=3, num_classes=NUM_CLASSES,
            num_estimators=4, conv_bias=False, dropout_rate=0.0, style=styles.ResNetStyle.CIFAR,
        )  # fmt: skip
        pairs = torch.cat([torch.randperm(len(y_B)) for _ in range(4)])  # in theirs, the batch's format makes them
        return _plain("torch-uncertainty", network.train(), x_BCHW[pairs], y_B[pairs])

    yield from compare(arguments, {"method": "mimo", "num_members": 4, "batch_repetitions": 1}, 1, make)


def mimo_of_mixmo_pytorch(arguments: argparse.Namespace) -> Iterator[Row]:
    method = {"method": "mimo", "num_members": 2, "batch_repetitions": 1}
    yield from _mixmo_pytorch(arguments, method, "exp_cifar100_wrn2810-2_mimo_standard_bar4")


def mixmo(arguments: argparse.Namespace) -> Iterator[Row]:
    method = {"method": "mixmo", "num_members": 2, "batch_repetitions": 1}
    yield from _mixmo_pytorch(arguments, method, "exp_cifar100_wrn2810-2_cutmixmo-p5_standard_bar4")


def _mixmo_pytorch(arguments: argparse.Namespace, method: dict[str, Any], config_name: str) -> Iterator[Row]:
    """Their model wrapper's own step on masks and pairs that are made before: in theirs, loader processes make them."""
    if arguments.mixmo is None:
        return
    wrappers = _from_checkout("--mixmo", arguments.mixmo, "mixmo.learners.model_wrapper")
    config = yaml.safe_load((arguments.mixmo / "config" / "cifar100" / f"{config_name}.yaml").read_text())
    config["model_wrapper"]["network"] |= {"depth": arguments.depth, "widen_factor": arguments.width}
    mixing = config["training"]["dataset_wrapper"]["mixmo"]

    def make(driven: Driven, x_BCHW: Tensor, y_B: Tensor) -> Peer:
        wrapper = wrappers.ModelWrapper(config["model_wrapper"], config, torch.device("cpu"))
        wrapper.mode = "train"
        wrapper.network.train()
        wrapper.loss.start_accumulator()
        wrapper._init_metrics()
        order_B = torch.randperm(len(x_BCHW))
        # As their loader hands it over: of one channel, in half precision. Equal shares, as in their MIMO, or a box.
        mask = torch.full((len(x_BCHW), 1, *x_BCHW.shape[2:]), 0.5, dtype=torch.float16)
        if mixing["alpha"]:
            mask.zero_()[:, :, 8:24, 8:24] = 1
        y_BK = F.one_hot(y_B, NUM_CLASSES).float()
        inputs = {
            "pixels": torch.cat([x_BCHW, x_BCHW[order_B]], dim=1),
            "metadata": {"mode": "train", "mixmo_masks": [mask]},
        }
        targets = {"target_0": y_BK, "target_1": y_BK[order_B]}

        def step() -> None:
            wrapper.optimizer.zero_grad()
            wrapper.step(wrapper.predict(inputs), targets, backprop=True)
            wrapper.get_short_logs()
            wrapper.optimizer.step()

        return Peer("mixmo-pytorch", step, lambda: wrapper.predict(inputs))

    yield from compare(arguments, method, 1, make)


def nfe(arguments: argparse.Namespace) -> Iterator[Row]:
    """Three exits with distillation, as their train_exit12.py goes through a batch."""
    if arguments.nfe is None:
        return
    script = _from_checkout("--nfe", arguments.nfe, "train_exit12")

    def make(driven: Driven, x_BCHW: Tensor, y_B: Tensor) -> Peer:
        with contextlib.redirect_stdout(io.StringIO()):
            network = script.Wide_ResNet_12(arguments.depth, arguments.width, 0.0, NUM_CLASSES).train()
        convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
        script.apply_prune_mask(network, [(torch.rand_like(conv.weight) < 0.5).float() for conv in convs])
        optimizer = _sgd(network)
        settings = argparse.Namespace(temperature=3)
        losses, top1 = script.AverageMeter(), script.AverageMeter()

        def step() -> None:
            outputs = network(x_BCHW)
            loss = sum(F.cross_entropy(output, y_B) for output in outputs)
            teacher = torch.softmax(sum(output / 3 for output in outputs).detach() / 3, dim=1)
            for output in outputs:
                loss = loss + script.kd_loss_function(output, teacher, settings) * 9 / len(x_BCHW)
            losses.update(loss.item(), len(x_BCHW))
            losses.update(loss.item(), len(x_BCHW))
            top1.update(script.accuracy(outputs[0].data, y_B)[0], len(x_BCHW))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return Peer("hjdw2/NFE", step, lambda: network(x_BCHW))

    yield from compare(arguments, {"method": "nfe", "num_members": 3}, 1, make)


def _plain(name: str, network: nn.Module, x_BCHW: Tensor, y_R: Tensor) -> Peer:
    optimizer = _sgd(network)

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(network(x_BCHW), y_R).backward()
        optimizer.step()

    return Peer(name, step, lambda: network(x_BCHW))


def _torch_uncertainty(module: str) -> Any:
    try:
        return importlib.import_module(f"torch_uncertainty.{module}")
    except ImportError as error:
        print(f"torch-uncertainty: not measured, {error}", file=sys.stderr)
        return None


def _from_checkout(option: str, folder: Path, module: str) -> Any:
    if not folder.is_dir():
        raise UserError(f"{option} {folder}: no such folder")
    sys.path.insert(0, str(folder))
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # they say what they load
            return importlib.import_module(module)
    except ImportError as error:
        raise UserError(f"{option} {folder}: {module} can't be imported ({error})") from None


COMPARISONS = {
    "batch_ensemble": batch_ensemble,
    "mimo_of_torch_uncertainty": mimo_of_torch_uncertainty,
    "mimo": mimo_of_mixmo_pytorch,
    "mixmo": mixmo,
    "nfe": nfe,
}


if __name__ == "__main__":
    sys.exit(exit_code(main))
