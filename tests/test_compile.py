"""`compile: auto|on|off`: who compiles, and what happens where it can't be done."""

from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmark import options
from benchmark.config import Run, Study, expand
from benchmark.networks import NETWORKS
from benchmark.speed.subject import make_method, random_data
from benchmark.trainer import Trainer
from methods import METHODS


def a_run(compile: bool | str) -> Run:
    content = {
        "name": "tiny",
        "tasks": [{"dataset": "digits", "network": {"name": "wide_resnet", "depth": 10, "width": 1}}],
        "recipe": {"epochs": 0.05, "batch_size": 16, "learning_rate": 0.1, "compile": compile},
        "methods": ["single"],
        "seeds": [0],
    }
    return expand(options.resolve(Study.model_validate(content), METHODS, NETWORKS))[0]


def a_trainer(folder: Path, compile: bool | str) -> Trainer:
    run = a_run(compile)
    return Trainer(run, make_method(run), random_data(run.task, 16), folder, torch.device("cpu"))


def no_backend(graph: Any, inputs: Any) -> Any:
    raise RuntimeError("no compiler is installed")


def test_auto_compiles_on_a_gpu_alone(tmp_path: Path) -> None:
    assert not a_trainer(tmp_path, "auto").compiles
    assert a_trainer(tmp_path, True).compiles


def test_what_cannot_be_compiled_is_trained_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = a_trainer(tmp_path / "plain", False).fit()["main"].state_dict()
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend=no_backend))
    fallen = a_trainer(tmp_path / "fallen", True).fit()["main"].state_dict()
    assert all(torch.equal(plain[name], fallen[name]) for name in plain)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "stage main can't be compiled and is trained uncompiled" in said[0]
    assert "no compiler is installed" in said[0]


def test_compiled_steps_give_the_loss_of_uncompiled_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To 1e-5 after ten steps. The graph is captured and differentiated as by inductor, whose kernels need a compiler."""
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    losses = []
    for compile in (False, True):
        trainer = a_trainer(tmp_path / str(compile), compile)
        stage = trainer.stages[0]
        network = trainer._started(stage, {})
        optimizer, streams = trainer._optimizer(stage, network), [trainer.stream("main", 16)]
        losses.append([trainer._step(stage, network, optimizer, streams, step, 0.0).item() for step in range(10)][-1])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
