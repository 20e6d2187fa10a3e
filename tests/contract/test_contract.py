"""What every method must do, run over all that are listed: a new method is tested by being one line in METHODS.

Of a method whose paper and released code differ, both variants are run.
"""

import copy
import shutil
from pathlib import Path

import pytest
import torch

from benchmark.config import Augmentation, Recipe, Run, TaskConfig
from benchmark.data.load import TaskData, load
from benchmark.data.sources import Location
from benchmark.method import Done, Method
from benchmark.options import build
from benchmark.trainer import Trainer
from methods import METHODS
from methods.variants import differences

CPU = torch.device("cpu")
NETWORKS = {
    "wide_resnet": {"name": "wide_resnet", "depth": 10, "width": 1},
    "resnet": {"name": "resnet", "depth": 18},
    "preact_resnet": {"name": "preact_resnet", "width": 1},
}


VARIANTS: dict[str, tuple[str, dict[str, object]]] = {name: (name, {}) for name in METHODS} | {
    f"{name}-released": (name, {"variant": "released"}) for name, method in METHODS.items() if differences(method)
}


def make_run(name: str, network: str = "wide_resnet", **recipe: object) -> Run:
    method, options = VARIANTS[name]
    task = TaskConfig(
        dataset="digits", network=NETWORKS[network], train_images=60, validation_images=20, test_images=20
    )
    settings = {"epochs": 2.0, "batch_size": 20, "learning_rate": 0.02, "augmentation": Augmentation(crop_padding=1)}
    return Run(name, method, options, task, Recipe.model_validate(settings | recipe), seed=3, deviations={})


@pytest.fixture(scope="module")
def data() -> TaskData:
    return load(make_run("single").task, Location(offline=True))


def trainer_of(run: Run, data: TaskData, folder: Path) -> tuple[Method, Trainer]:
    method: Method = build("method", METHODS, run.method, run.options)
    return method, Trainer(run, method, data, folder, CPU)


def started(method: Method, trainer: Trainer) -> Done:
    """Every stage's network as it starts, each from the ones before."""
    done: Done = {}
    for stage in trainer.stages:
        done[stage.name] = trainer._started(stage, done)
    return done


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_is_grouped_once_and_gets_a_gradient(
    name: str, network: str, data: TaskData, tmp_path: Path
) -> None:
    method, trainer = trainer_of(make_run(name, network), data, tmp_path)
    done = started(method, trainer)
    for stage in trainer.stages:
        network_of_stage = done[stage.name]
        grouped = [p for group in method.param_groups(stage, network_of_stage) for p in group.params]
        assert {id(p) for p in grouped} == {id(p) for p in network_of_stage.parameters()}
        assert len(grouped) == len({id(p) for p in grouped})
        batches = [trainer.stream(stream, stage.batch_size).batch(0) for stream in stage.streams]
        loss = method.loss(
            network_of_stage, torch.stack([x for x, _ in batches]), torch.stack([y for _, y in batches]), 0.0
        )
        assert loss.shape == ()
        loss.backward()
        for parameter_name, parameter in network_of_stage.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", VARIANTS)
def test_trains_and_predicts_for_every_member(name: str, data: TaskData, tmp_path: Path) -> None:
    method, trainer = trainer_of(make_run(name), data, tmp_path)
    before = copy.deepcopy(started(method, trainer))
    done = trainer.fit()
    assert [*done] == [stage.name for stage in trainer.stages]
    for stage_name, network in done.items():
        moved = [
            not torch.equal(p, q) for p, q in zip(network.parameters(), before[stage_name].parameters(), strict=True)
        ]
        assert all(moved), stage_name
    logits = trainer.predictor.logits(done, data.test)
    assert logits.shape == (method.num_members, 20, 10)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    if method.num_members > 1:
        assert not torch.equal(logits[0], logits[1])


@pytest.mark.parametrize("name", VARIANTS)
def test_prediction_of_an_image_depends_on_no_other(name: str, data: TaskData, tmp_path: Path) -> None:
    method, trainer = trainer_of(make_run(name), data, tmp_path)
    done = {stage: network.eval() for stage, network in started(method, trainer).items()}
    x_BCHW = trainer.predictor.images(data.test, 0, 7)
    with torch.no_grad():
        together = method.predict(done, x_BCHW)
        alone = torch.cat([method.predict(done, x_BCHW[i : i + 1]) for i in range(7)], dim=1)
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_predicts_from_the_first_stage_on(name: str, data: TaskData, tmp_path: Path) -> None:
    """What learning curves and the progress bar ask for."""
    method, trainer = trainer_of(make_run(name), data, tmp_path)
    first = trainer.stages[0].name
    done = {first: started(method, trainer)[first].eval()}
    with torch.no_grad():
        assert method.predict(done, trainer.predictor.images(data.test, 0, 3)).shape[1:] == (3, 10)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(
    "recipe",
    [
        {"precision": "bf16"},
        {"channels_last": False},
        {"label_smoothing": 0.1, "warmup_epochs": 0.5},
        {"augmentation": Augmentation(crop_padding=1, cutout=3, cutmix=1.0)},
    ],
    ids=["bf16", "contiguous", "smoothed", "cutmix"],
)
def test_trains_under_every_kind_of_recipe(
    name: str, recipe: dict[str, object], data: TaskData, tmp_path: Path
) -> None:
    run = make_run(name, epochs=1.0, **recipe)
    _, trainer = trainer_of(run, data, tmp_path)
    trainer.fit()
    assert all(0 < entry["loss"] < 1e4 for entry in trainer.ledger.history)


@pytest.mark.parametrize("name", VARIANTS)
def test_losses_are_float32_under_bf16(name: str, data: TaskData, tmp_path: Path) -> None:
    method, trainer = trainer_of(make_run(name, precision="bf16"), data, tmp_path)
    stage = trainer.stages[0]
    network = trainer._started(stage, {})
    batches = [trainer.stream(stream, stage.batch_size).batch(0) for stream in stage.streams]
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.loss(network, torch.stack([x for x, _ in batches]), torch.stack([y for _, y in batches]), 0.0)
    assert loss.dtype == torch.float32


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_training_agrees_with_eager(data: TaskData, tmp_path: Path) -> None:
    """Up to rounding; compiling has a clock of its own."""
    _, eager = trainer_of(make_run("single", epochs=1.0), data, tmp_path / "eager")
    _, compiled = trainer_of(make_run("single", epochs=1.0, compile=True), data, tmp_path / "compiled")
    expected, done = eager.fit(), compiled.fit()
    assert compiled.clock.seconds["compile"] > compiled.clock.seconds["train"]
    with torch.no_grad():
        x = eager.predictor.images(data.test, 0, 20)
        torch.testing.assert_close(done["main"](x), expected["main"](x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in METHODS),
        ("batch_ensemble", {"batches": "tiled"}),
        ("mimo", {"batch_repetitions": 1}),
        ("mixmo", {"batch_repetitions": 2}),
    ],
)
def test_rows_per_image_are_those_that_enter_the_trunk(
    name: str, options: dict[str, object], data: TaskData, tmp_path: Path
) -> None:
    """Behind the stem, whose outputs MixMo mixes, and before exits part."""
    method: Method = build("method", METHODS, name, options)
    trainer = Trainer(make_run(name), method, data, tmp_path, CPU)
    stage = trainer.stages[0]
    network = trainer._started(stage, {})
    trunk = next(module for part, module in network.named_modules() if part.endswith("groups"))
    first = trunk[0][0] if isinstance(trunk[0], torch.nn.ModuleList) else trunk[0]
    rows: list[int] = []
    first.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    x_BCHW, y_BK = trainer.stream(stage.name, stage.batch_size).batch(0)
    method.loss(network, x_BCHW[None], y_BK[None], 0.0)
    assert rows == [method.rows_per_image * len(x_BCHW)]
