"""`execution: auto`: the faster form is taken, kept, and changes no member."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import execution, options
from benchmark.config import Run, Study, expand
from benchmark.execution import fastest
from benchmark.networks import NETWORKS
from benchmark.speed.subject import make_method, random_data
from benchmark.trainer import Trainer
from methods import METHODS
from methods.deep_ensemble import DeepEnsemble

CPU = torch.device("cpu")


def a_run(form: str) -> Run:
    content = {
        "name": "tiny",
        "tasks": [{"dataset": "digits", "network": {"name": "wide_resnet", "depth": 10, "width": 1}}],
        "recipe": {"epochs": 0.02, "batch_size": 16, "learning_rate": 0.1},
        "methods": [{"method": "deep_ensemble", "num_members": 2, "execution": form}],
        "seeds": [0],
    }
    return expand(options.resolve(Study.model_validate(content), METHODS, NETWORKS))[0]


def choose(folder: Path, run: Run) -> DeepEnsemble:
    chosen = fastest(run, make_method(run), random_data(run.task, 16), folder, CPU)
    assert isinstance(chosen, DeepEnsemble)
    return chosen


@pytest.mark.parametrize(("stacked_seconds", "form"), [(0.5, "stacked"), (2.0, "sequential")])
def test_the_faster_form_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stacked_seconds: float, form: str
) -> None:
    seconds = {"sequential": 1.0, "stacked": stacked_seconds}
    monkeypatch.setattr(execution, "_training_seconds", lambda run, method, *_: seconds[method.execution])
    assert choose(tmp_path, a_run("auto")).execution == form


def test_a_run_keeps_its_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = choose(tmp_path, a_run("auto"))
    monkeypatch.setattr(execution, "_training_seconds", lambda *_: pytest.fail("was chosen before"))
    assert choose(tmp_path, a_run("auto")) == first
    assert [path.name for path in tmp_path.iterdir()] == ["execution.json"]
    assert min(json.loads((tmp_path / "execution.json").read_bytes())["seconds"]) > 0


def test_a_form_that_cannot_be_trained_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As torch 2.11 does on a GPU."""

    def measure(run: Run, method: DeepEnsemble, *_: object) -> float:
        if method.execution == "stacked":
            raise RuntimeError("NYI: querying is_contiguous inside of vmap")
        return 1.0

    monkeypatch.setattr(execution, "_training_seconds", measure)
    assert choose(tmp_path, a_run("auto")).execution == "sequential"
    assert json.loads((tmp_path / "execution.json").read_bytes())["seconds"] == [1.0, None]
    [line] = capsys.readouterr().err.splitlines()
    assert "can't be trained on cpu: NYI" in line


@pytest.mark.parametrize(
    "content", ['{"form": -1}', '{"form": true}', '{"form": 2}', '{"form": "1"}', "", "[" * 100_000]
)
def test_a_damaged_choice_is_made_again(content: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "execution.json").write_text(content)
    seconds = {"sequential": 1.0, "stacked": 2.0}
    monkeypatch.setattr(execution, "_training_seconds", lambda run, method, *_: seconds[method.execution])
    assert choose(tmp_path, a_run("auto")).execution == "sequential"
    assert json.loads((tmp_path / "execution.json").read_bytes())["form"] == 0


def test_a_form_that_is_named_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_training_seconds", lambda *_: pytest.fail("nothing is to be measured"))
    assert choose(tmp_path, a_run("stacked")).execution == "stacked"


def test_members_do_not_depend_on_the_form(tmp_path: Path) -> None:
    logits = {}
    for form in ("sequential", "stacked"):
        run = a_run(form)
        data = random_data(run.task, 16)
        trainer = Trainer(run, make_method(run), data, tmp_path / form, CPU)
        logits[form] = trainer.predictor.logits(trainer.fit(), data.test).numpy()
    np.testing.assert_allclose(logits["sequential"], logits["stacked"], atol=1e-4)
