"""What the README shows to whoever adds a method or writes a study is true."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from benchmark.config import Study, expand
from benchmark.data.load import load
from benchmark.data.sources import Location
from benchmark.method import Method, cross_entropy
from benchmark.networks import NETWORKS
from benchmark.options import resolve
from benchmark.trainer import Trainer
from methods import METHODS

README = (Path(__file__).parents[2] / "README.md").read_text()


def code(language: str) -> str:
    [block] = re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)
    return block


def test_the_example_method_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"dataclass": dataclass, "Method": Method, "cross_entropy": cross_entropy, "torch": torch}
    exec(code("python"), names)
    content = yaml.safe_load((Path(__file__).parents[2] / "benchmark/studies/quickstart.yaml").read_text())
    study = Study.model_validate(content | {"name": "two-heads", "methods": ["two_heads"], "seeds": [0]})
    [run] = expand(resolve(study, METHODS | {"two_heads": names["TwoHeads"]}, NETWORKS))
    run = replace(run, recipe=run.recipe.model_copy(update={"epochs": 1.0}))
    data = load(run.task, Location(offline=True))
    trainer = Trainer(run, names["TwoHeads"](), data, tmp_path, torch.device("cpu"))
    assert trainer.predictor.logits(trainer.fit(), data.test).shape == (2, 500, 10)


def test_the_example_study_is_valid() -> None:
    study = Study.model_validate({"name": "example"} | yaml.safe_load(code("yaml")))
    assert len(expand(resolve(study, METHODS, NETWORKS))) == 18


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_listed(name: str) -> None:
    assert f"| `{name}` |" in README
