"""`python -m benchmark.speed` on a network of no size: what it measures is the trainer's own work, and adds up."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from benchmark import options
from benchmark.config import Run, Study, expand
from benchmark.errors import exit_code
from benchmark.networks import NETWORKS
from benchmark.speed import records
from benchmark.speed.__main__ import SECTIONS, main
from benchmark.speed.bare_loop import PADDING, BareLoop
from benchmark.speed.memory import needed_bytes, peak_step_bytes
from benchmark.speed.subject import Subject, random_data, subjects
from methods import METHODS

TINY = ["--dataset", "digits", "--network", "{name: wide_resnet, depth: 10, width: 1}", "--batch-size", "8"]
CPU = torch.device("cpu")
Said = Callable[..., tuple[int, str, str]]


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Said:
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["speed", *arguments])
        code = exit_code(main)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def study(*methods: Any, **recipe: Any) -> Study:
    content = {
        "name": "tiny",
        "tasks": [{"dataset": "digits", "network": {"name": "wide_resnet", "depth": 10, "width": 1}}],
        "recipe": {"epochs": 2, "batch_size": 8, "learning_rate": 0.1} | recipe,
        "methods": list(methods),
        "seeds": [0],
    }
    return options.resolve(Study.model_validate(content), METHODS, NETWORKS)


def subject(folder: Path, method: Any) -> Subject:
    return subjects(study(method), folder, CPU)[0]


def test_every_section_measures_every_method(speed: Said) -> None:
    # What starts up is measured in processes of their own, and takes seconds.
    sections = [name for name in SECTIONS if name not in ("start_up", "pipeline")]
    code, out, err = speed(*TINY, "--device", "cpu", "--rounds", "1", "--json", "--sections", *sections)
    assert code == 0, err
    measured = json.loads(out)
    for section in ("runs", "prediction"):
        assert [row["name"].split("-")[0].split(",")[0] for row in measured[section]] == list(METHODS)
    assert {row["name"] for row in measured["memory"]} == {row["name"] for row in measured["checkpoints"]}
    assert all(row["ms_per_step"]["median"] > 0 for row in measured["steps"][:-1])


def test_the_trainer_takes_the_steps_that_are_measured(tmp_path: Path) -> None:
    [driven] = subject(tmp_path, "single").driven
    before = [parameter.clone() for parameter in driven.network.parameters()]
    driven.step()
    assert all(not torch.equal(old, new) for old, new in zip(before, driven.network.parameters(), strict=True))
    assert driven.optimizer.state


def test_stages_of_one_kind_are_measured_once(tmp_path: Path) -> None:
    names = {driven.name for driven in subject(tmp_path, {"method": "prune_and_tune", "num_members": 3}).driven}
    assert names == {"prune_and_tune-3, parent", "prune_and_tune-3, child-0"}
    [member] = subject(tmp_path, {"method": "deep_ensemble", "num_members": 3}).driven
    [single] = subject(tmp_path, "single").driven
    assert member.num_steps == 3 * single.num_steps


def test_the_bare_loop_does_the_arithmetic_of_single(tmp_path: Path) -> None:
    """From the same weights on the same images both take the same step."""
    single = subject(tmp_path, "single")
    [driven] = single.driven
    x_BCHW, y_BK = driven.streams[0].batch(0)
    network = single.trainer.task.network()
    network.load_state_dict(driven.network.state_dict())
    split = single.data.train
    bare = BareLoop(network, split.images_NHWC, split.labels_N, 8, CPU)
    bare.cropped = lambda image_B, here: x_BCHW  # type: ignore[method-assign]
    bare.labels_N[bare.order_N[:8]] = y_BK.argmax(1)
    bare.step()
    driven.step()
    for name, ours in driven.network.state_dict().items():
        assert torch.allclose(ours, network.state_dict()[name], atol=1e-6), name


def test_the_bare_loop_crops_and_flips(tmp_path: Path) -> None:
    data = random_data(study("single").tasks[0], 8)
    images_NHWC = data.train.images_NHWC
    bare = BareLoop(torch.nn.Linear(1, 1), images_NHWC, data.train.labels_N, 8, CPU)
    x_BCHW = bare.cropped(bare.order_N[:8], slice(0, 8))
    padded = F.pad(images_NHWC, (0, 0, PADDING, PADDING, PADDING, PADDING))
    for x_CHW, image, top, left, mirrored in zip(
        x_BCHW, bare.order_N, bare.top_N, bare.left_N, bare.mirrored_N, strict=False
    ):
        crop_HWC = padded[image, top : top + bare.height, left : left + bare.width].float() / 64 - 2
        expected = crop_HWC.flip(1) if mirrored else crop_HWC
        assert torch.allclose(x_CHW, expected.permute(2, 0, 1))
    assert x_BCHW.is_contiguous(memory_format=torch.channels_last)


def test_a_step_holds_at_least_its_weights_gradients_and_momentum(tmp_path: Path) -> None:
    [driven] = subject(tmp_path, "single").driven
    driven.step()
    weights = sum(parameter.numel() * 4 for parameter in driven.network.parameters())
    needed = needed_bytes(driven)
    assert needed > 3 * weights
    assert 0.8 * needed < peak_step_bytes(driven, CPU) < 2 * needed


def test_rates_are_kept_for_predictions(tmp_path: Path, speed: Said) -> None:
    arguments = [*TINY, "--device", "cpu", "--rounds", "1", "--sections", "steps", "--methods", "single", "mimo"]
    for _ in range(2):
        assert speed(*arguments, "--results", str(tmp_path))[0] == 0
    kept = records.read(tmp_path)
    assert [record["method"] for record in kept] == ["single", "mimo"] * 2
    assert all(record["flops_per_second"] > 0 for record in kept)


def a_run(method: str, depth: int = 10) -> Run:
    [run] = expand(study(method))
    run.task.network["depth"] = depth
    return run


def test_the_most_similar_rate_is_taken() -> None:
    kept = [
        records.record_of(a_run("single"), "this", 1, 1.0),
        records.record_of(a_run("mimo"), "this", 1, 2.0),
        records.record_of(a_run("mimo", depth=16), "this", 1, 3.0),
        records.record_of(a_run("mimo"), "other", 1, 4.0),
    ]
    assert records.rate_for(a_run("mimo"), kept, "this") == 2.0
    assert records.rate_for(a_run("mimo", depth=16), kept, "this") == 3.0
    assert records.rate_for(a_run("single", depth=22), kept, "this") == 1.0
    assert records.rate_for(a_run("single"), kept, "nowhere") is None


def test_damaged_records_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records.append(tmp_path, [records.record_of(a_run("single"), "this", 1, 1.0)])
    with (tmp_path / records.FILE_NAME).open("a") as file:
        file.write('{"device": "this"\n[]\n')
        for rate in ("-1.0", "0", "NaN", "Infinity", '"1.0"', "true"):  # runs would take for ever, or no time
            file.write(
                f'{{"device": "this", "method": "single", "network": {{}}, "recipe": {{}}, "flops_per_second": {rate}}}\n'
            )
    assert len(records.read(tmp_path)) == 1
    assert "8 lines are no speed records" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--methods", "singel"], "unknown method 'singel', did you mean 'single'?"),
        (["--methods", "{method: "], "not valid YAML"),
        (["--network", "{name: wide_resnet, depth: 11}"], "depth must be 6n + 4"),
        (["--dataset", "cifar11"], "unknown data set 'cifar11', did you mean 'cifar1"),
        (["--dataset", "photos"], "can't be measured without its files"),
        (["--batch-size", "2000", "--dataset", "digits"], "is more than the 1297 images"),
        (["--rounds", "0"], "must be a whole number above 0, not '0'"),
        (["--device", "gpu"], "unknown device (allowed: auto, cpu, cuda, cuda:N)"),
        (["--sections", "speed"], "invalid choice: 'speed'"),
        (["no-such-study"], "unknown study 'no-such-study'"),
    ],
)
def test_wrong_input_is_said_in_one_line(speed: Said, arguments: list[str], problem: str) -> None:
    code, out, err = speed(*arguments)
    assert code == 2
    assert problem in err.splitlines()[-1]
    assert not out
