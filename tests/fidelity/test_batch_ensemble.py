"""BatchEnsemble: W_m = W o (s_m r_m^T) in every layer, members in blocks of rows (2002.06715)."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.config import Recipe
from benchmark.method import Task
from methods.batch_ensemble import BatchEnsemble
from methods.rank1 import Rank1Conv2d, Rank1Linear, fast_weights

M = 3
BACKBONES = [
    {"name": "wide_resnet", "depth": 10, "width": 1},
    {"name": "wide_resnet", "depth": 10, "width": 2, "stride_in": "second"},
    {"name": "resnet", "depth": 18},
    {"name": "preact_resnet", "width": 1},
]


def started(method: BatchEnsemble, task: Task, recipe: Recipe) -> nn.Module:
    [stage] = method.stages(task, recipe)
    return method.start(stage, task, {})


def rank1_layers(network: nn.Module) -> dict[str, Rank1Conv2d | Rank1Linear]:
    return {name: module for name, module in network.named_modules() if hasattr(module, "r")}


@torch.no_grad()
def explicit_member(network: nn.Module, plain: nn.Module, m: int) -> nn.Module:
    """The plain backbone with member m's weights written into it: W o (s_m r_m^T)."""
    norms = {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    layers = rank1_layers(network)
    for name, module in plain.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            layer = layers.pop(name)
            outer = torch.outer(layer.s[m], layer.r[m])
            outer = outer.reshape(*outer.shape, *[1] * (module.weight.dim() - 2))
            module.weight.copy_(layer.weight * outer)
            if isinstance(module, nn.Linear):
                module.bias.copy_(layer.member_bias[m])
        elif isinstance(module, nn.BatchNorm2d):
            module.load_state_dict(norms.pop(name).state_dict())
    assert not layers, f"layers that the plain backbone lacks: {list(layers)}"
    assert not norms
    return plain.eval()


@pytest.mark.parametrize("backbone", BACKBONES, ids=lambda options: options["name"])
def test_output_is_that_of_explicit_networks(
    backbone: dict[str, Any], task_of: Callable[..., Task], recipe: Recipe
) -> None:
    task = task_of(dtype=torch.float64, **backbone)
    method = BatchEnsemble(num_members=M, fast_init="normal")  # signs alone would hide a missing square
    torch.manual_seed(0)
    network = started(method, task, recipe)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.running_mean, module.bias):
                    tensor.normal_(0, 0.3)
                for tensor in (module.running_var, module.weight):
                    tensor.uniform_(0.5, 1.5)
            if isinstance(module, Rank1Linear):
                module.member_bias.normal_()
    x_BCHW = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        logits_MBK = method.predict({"main": network.eval()}, x_BCHW)
        assert logits_MBK.shape == (M, 4, 4)
        for m in range(M):
            expected_BK = explicit_member(network, task.network(), m)(x_BCHW)
            torch.testing.assert_close(logits_MBK[m], expected_BK, rtol=1e-9, atol=1e-9)
    assert (logits_MBK[0] - logits_MBK[1]).abs().max() > 1e-3


@pytest.mark.parametrize("stride", [1, 2])
def test_convolution_scales_its_inputs_by_r_and_its_outputs_by_s(stride: int) -> None:
    make = partial(Rank1Conv2d, num_members=M, fast_init="normal")
    conv = make(3, 5, kernel_size=3, stride=stride, padding=1, bias=False).double()
    x_RCHW = torch.randn(M * 4, 3, 8, 8, dtype=torch.float64)
    for row, y_CHW in enumerate(conv(x_RCHW)):
        scaled_CHW = x_RCHW[row] * conv.r[row // 4].view(3, 1, 1)
        by_hand = F.conv2d(scaled_CHW[None], conv.weight, None, stride, 1)[0] * conv.s[row // 4].view(5, 1, 1)
        torch.testing.assert_close(y_CHW, by_hand, rtol=1e-10, atol=1e-12)


def test_classifier_has_a_bias_of_each_member() -> None:
    linear = Rank1Linear(6, 4, num_members=M, fast_init="normal").double()
    assert torch.equal(linear.member_bias, torch.zeros(M, 4))
    nn.init.normal_(linear.member_bias)
    x_RI = torch.randn(M * 2, 6, dtype=torch.float64)
    for row, y_O in enumerate(linear(x_RI)):
        m = row // 2
        by_hand = linear.s[m] * (linear.weight @ (linear.r[m] * x_RI[row])) + linear.member_bias[m]
        torch.testing.assert_close(y_O, by_hand, rtol=1e-10, atol=1e-12)


def test_every_member_sees_every_image_and_the_loss_is_the_mean_over_members(
    task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe
) -> None:
    task, method = task_of(dtype=torch.float64), BatchEnsemble(num_members=M)
    network = started(method, task, recipe)
    seen: list[Any] = []
    network.register_forward_hook(lambda _, args, logits: seen.append((args[0], logits)))
    x_SBCHW, y_SBK = batch_of(1, 5, torch.float64)
    loss = method.loss(network, x_SBCHW, y_SBK, 0.0).item()
    [(rows_RCHW, logits_RK)] = seen
    assert len(rows_RCHW) == M * 5
    member_losses = []
    for m in range(M):
        member_loss = 0.0
        for b in range(5):
            assert torch.equal(rows_RCHW[m * 5 + b], x_SBCHW[0, b])
            logits = logits_RK[m * 5 + b].tolist()
            log_sum = math.log(sum(map(math.exp, logits)))
            member_loss += sum(y * (log_sum - z) for y, z in zip(y_SBK[0, b].tolist(), logits, strict=True)) / 5
        member_losses.append(member_loss)
    assert loss == pytest.approx(sum(member_losses) / M, rel=1e-6)


def test_batch_normalisation_is_shared_and_sees_all_members_rows(
    task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe
) -> None:
    task, method = task_of(dtype=torch.float64), BatchEnsemble(num_members=M)
    network = started(method, task, recipe)
    inputs: list[Any] = []
    norm = network.groups[0][0].norm1
    norm.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    method.loss(network.train(), *batch_of(1, 5, torch.float64), 0.0)
    assert norm.weight.shape == (16,)
    mean_C = torch.stack([inputs[0][:, c].mean() for c in range(16)])
    torch.testing.assert_close(norm.running_mean, 0.1 * mean_C)


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


@pytest.mark.parametrize("fast_init", ["random_sign", "normal"])
def test_every_layer_starts_as_asked(fast_init: Any, task_of: Callable[..., Task], recipe: Recipe) -> None:
    network = started(BatchEnsemble(num_members=M, fast_init=fast_init), task_of(), recipe)
    layers = rank1_layers(network)
    assert len(layers) == 1 + 6 + 2 + 1  # stem, two per block, shortcuts of groups 2 and 3 (width 1), classifier
    for layer in layers.values():
        assert layer.r.shape == (M, layer.weight.shape[1])
        assert layer.s.shape == (M, layer.weight.shape[0])
        is_sign = all((vector.abs() == 1).all() for vector in (layer.r, layer.s))
        assert is_sign == (fast_init == "random_sign")


def test_fast_weights_are_not_decayed(task_of: Callable[..., Task], train: Callable[..., None], recipe: Recipe) -> None:
    class NoGradient(BatchEnsemble):
        def loss(self, network: nn.Module, *_: Any) -> torch.Tensor:
            return sum(parameter.sum() for parameter in network.parameters()) * 0.0

    method, task = NoGradient(num_members=M), task_of()
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
        factor = 1.0 if name.endswith((".r", ".s")) else shrunk
        torch.testing.assert_close(parameter, before[name] * factor, msg=name)


def test_multiplier_slows_fast_weights_and_member_biases_alone(
    task_of: Callable[..., Task], batch_of: Callable[..., Any], train: Callable[..., None], recipe: Recipe
) -> None:
    task = task_of()
    recipe = recipe.model_copy(update={"weight_decay": 0.0})
    changes = []
    for multiplier in (1.0, 0.5):
        method = BatchEnsemble(num_members=M, fast_learning_rate_multiplier=multiplier)
        torch.manual_seed(0)
        network = started(method, task, recipe)
        before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
        [stage] = method.stages(task, recipe)
        train(method, stage, network, [batch_of(1, 8)])
        changes.append({name: p.detach() - before[name] for name, p in network.named_parameters()})
    for name, change in changes[0].items():
        assert change.abs().max() > 0, name
        factor = 0.5 if name.endswith((".r", ".s", "member_bias")) else 1.0
        torch.testing.assert_close(changes[1][name], change * factor, rtol=1e-3, atol=1e-6, msg=name)
