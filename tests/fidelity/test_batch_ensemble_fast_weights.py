"""BatchEnsemble's fast weights: how they start, and what decays and slows them (2002.06715)."""

from collections.abc import Callable
from typing import Any

import pytest
import scipy.stats
import torch
from torch import nn

from benchmark.config import Recipe
from benchmark.method import Task
from methods.batch_ensemble import BatchEnsemble
from methods.rank1 import Rank1Conv2d, Rank1Linear, fast_weights

M = 3


def started(method: BatchEnsemble, task: Task, recipe: Recipe) -> nn.Module:
    [stage] = method.stages(task, recipe)
    return method.start(stage, task, {})


def rank1_layers(network: nn.Module) -> dict[str, Rank1Conv2d | Rank1Linear]:
    return {name: module for name, module in network.named_modules() if hasattr(module, "r")}


def test_fast_weights_start_as_random_signs() -> None:
    torch.manual_seed(0)
    vectors = fast_weights(4, 1000, "random_sign")
    assert set(vectors.unique().tolist()) == {-1.0, 1.0}
    for m, vector in enumerate(vectors):
        assert 400 < (vector > 0).sum() < 600
        for other in vectors[:m]:
            assert 400 < (vector == other).sum() < 600, "members draw their own signs"


def test_released_initialisation_is_normal_around_one() -> None:
    torch.manual_seed(0)
    vectors = fast_weights(4, 5000, "normal").detach()
    assert vectors.mean().item() == pytest.approx(1.0, abs=0.02)
    assert vectors.std().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("options", "fast_init"),
    [
        ({}, "random_sign"),
        ({"variant": "released"}, "normal"),
        ({"fast_init": "normal"}, "normal"),
        ({"variant": "released", "fast_init": "random_sign"}, "random_sign"),
    ],
    ids=str,
)
def test_every_layer_starts_as_asked(
    options: Any, fast_init: str, task_of: Callable[..., Task], recipe: Recipe
) -> None:
    network = started(BatchEnsemble(num_members=M, **options), task_of(), recipe)
    layers = rank1_layers(network)
    assert len(layers) == 1 + 6 + 2 + 1  # stem, two per block, shortcuts of groups 2 and 3 (width 1), classifier
    for layer in layers.values():
        assert layer.r.shape == (M, layer.weight.shape[1])
        assert layer.s.shape == (M, layer.weight.shape[0])
        is_sign = all((vector.abs() == 1).all() for vector in (layer.r, layer.s))
        assert is_sign == (fast_init == "random_sign")
    if fast_init == "normal":
        drawn = torch.cat([vector.detach().flatten() for layer in layers.values() for vector in (layer.r, layer.s)])
        assert scipy.stats.kstest(drawn.numpy(), scipy.stats.norm(1.0, 0.5).cdf).pvalue > 1e-3


@pytest.mark.parametrize("decayed", [False, True])
def test_fast_weights_are_decayed_only_where_asked(
    decayed: bool, task_of: Callable[..., Task], train: Callable[..., None], recipe: Recipe
) -> None:
    class NoGradient(BatchEnsemble):
        def loss(self, network: nn.Module, *_: Any) -> torch.Tensor:
            return sum(parameter.sum() for parameter in network.parameters()) * 0.0

    method, task = NoGradient(num_members=M, decay_fast_weights=decayed), task_of()
    network = started(method, task, recipe)
    for layer in rank1_layers(network).values():
        if isinstance(layer, Rank1Linear):
            nn.init.ones_(layer.member_bias)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    [stage] = method.stages(task, recipe)
    train(method, stage, network, [(torch.empty(0), torch.empty(0))])
    # One Nesterov step from rest on the decay alone: w - lr (1 + momentum) wd w.
    shrunk = 1 - 0.1 * 1.9 * 0.01
    for name, parameter in network.named_parameters():
        factor = 1.0 if name.endswith((".r", ".s")) and not decayed else shrunk
        torch.testing.assert_close(parameter, before[name] * factor, msg=name)


@pytest.mark.parametrize(
    ("options", "fast", "biases"),
    [
        ({}, 1.0, 1.0),
        ({"variant": "released"}, 0.5, 0.5),
        ({"fast_learning_rate_multiplier": 0.25}, 0.25, 1.0),
        ({"variant": "released", "slowed": "fast_weights"}, 0.5, 1.0),
    ],
    ids=str,
)
def test_the_multiplier_slows_fast_weights_and_as_released_the_members_biases(
    options: Any,
    fast: float,
    biases: float,
    task_of: Callable[..., Task],
    batch_of: Callable[..., Any],
    train: Callable[..., None],
    recipe: Recipe,
) -> None:
    task = task_of()
    recipe = recipe.model_copy(update={"weight_decay": 0.0})
    changes = []
    for changed in ({}, options):
        method = BatchEnsemble(num_members=M, **(changed | {"batches": "tiled", "fast_init": "normal"}))
        torch.manual_seed(0)
        network = started(method, task, recipe)
        before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
        [stage] = method.stages(task, recipe)
        train(method, stage, network, [batch_of(1, 8)])
        changes.append({name: p.detach() - before[name] for name, p in network.named_parameters()})
    for name, change in changes[0].items():
        assert change.abs().max() > 0, name
        factor = fast if name.endswith((".r", ".s")) else biases if name.endswith("member_bias") else 1.0
        torch.testing.assert_close(changes[1][name], change * factor, rtol=1e-3, atol=1e-6, msg=name)
