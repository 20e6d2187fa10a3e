"""CUDA graphs of a network's passes. Most of it needs a GPU, and is skipped where there is none."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmark import options
from benchmark.config import Study, expand
from benchmark.graphs import Recorded
from benchmark.networks import NETWORKS
from benchmark.speed.subject import make_method, random_data
from benchmark.trainer import Trainer
from methods import METHODS

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
METHODS_RECORDED: list[Any] = [
    "single",
    {"method": "nfe", "num_members": 3, "sparsity": 0.3},
    {"method": "nfe", "num_members": 3, "variant": "released"},
    {"method": "mixmo", "num_members": 2, "batch_repetitions": 2},
    {"method": "mimo", "num_members": 2},
    {"method": "batch_ensemble", "num_members": 4},
    {"method": "prune_and_tune", "num_members": 2},
]


@pytest.fixture(autouse=True)
def _same_kernels() -> Iterator[None]:
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    yield
    torch.backends.cudnn.deterministic = before


def a_trainer(folder: Path, compile: bool | str, method: Any = "single", precision: str = "fp32") -> Trainer:
    content = {
        "name": "tiny",
        "tasks": [{"dataset": "digits", "network": {"name": "wide_resnet", "depth": 10, "width": 1}}],
        "recipe": {
            "epochs": 0.5,
            "batch_size": 32,
            "learning_rate": 0.01,
            "precision": precision,
            "compile": compile,
        },
        "methods": [method],
        "seeds": [0],
    }
    [run] = expand(options.resolve(Study.model_validate(content), METHODS, NETWORKS))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return Trainer(run, make_method(run), random_data(run.task, 32), folder, device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_nothing_is_recorded_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = a_trainer(tmp_path / "plain", False).fit()["main"].state_dict()
    unrecorded = a_trainer(tmp_path / "unrecorded", "graphs").fit()["main"].state_dict()
    assert all(torch.equal(plain[name], unrecorded[name]) for name in plain)
    [line] = capsys.readouterr().err.splitlines()
    assert "compile: graphs needs a GPU" in line


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", METHODS_RECORDED, ids=str)
def test_recorded_networks_are_trained_alike(
    tmp_path: Path, method: Any, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = a_trainer(tmp_path / "plain", False, method, precision).fit()
    recorded = a_trainer(tmp_path / "recorded", "graphs", method, precision).fit()
    assert not capsys.readouterr().err
    for name, network in plain.items():
        for key, value in network.state_dict().items():
            torch.testing.assert_close(recorded[name].state_dict()[key], value, rtol=1e-4, atol=1e-5)


@needs_gpu
def test_recorded_passes_are_given_back_when_a_stage_has_ended(tmp_path: Path) -> None:
    trainer = a_trainer(tmp_path, "graphs")
    assert isinstance(trainer._started(trainer.stages[0], {})._compiled_call_impl, Recorded)
    assert trainer.fit()["main"]._compiled_call_impl is None


class Twice(nn.Module):
    """Asked twice for one loss."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).tanh()


class Waiting(Twice):
    """Reads a value from the GPU, which no graph can hold."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1.0 if x.sum().item() > 0 else 2.0)


def gradients(network: nn.Module, calls: int) -> list[Tensor]:
    x = torch.ones(2, 4, device="cuda")
    found = []
    for step in range(3):
        network.zero_grad(set_to_none=True)
        sum(network(x * (step + i)).square().sum() for i in range(1, calls + 1)).backward()
        found += [parameter.grad.clone() for parameter in network.parameters()]
    return found


@needs_gpu
@pytest.mark.parametrize("calls", [1, 2])
def test_a_second_call_before_the_gradient_is_no_replay(calls: int) -> None:
    network = Twice().cuda()
    expected = gradients(network, calls)
    network._compiled_call_impl = Recorded(network)
    for got, wanted in zip(gradients(network, calls), expected, strict=True):
        torch.testing.assert_close(got, wanted)


@needs_gpu
def test_what_cannot_be_recorded_is_trained_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    network = Waiting().cuda()
    expected = gradients(network, 1)
    network._compiled_call_impl = Recorded(network)
    for got, wanted in zip(gradients(network, 1), expected, strict=True):
        torch.testing.assert_close(got, wanted)
    [line] = capsys.readouterr().err.splitlines()
    assert "can't be recorded" in line
