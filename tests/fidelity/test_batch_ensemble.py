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
from benchmark.errors import UserError
from benchmark.method import Task
from benchmark.run import resolved_study
from methods.batch_ensemble import BatchEnsemble
from methods.rank1 import Rank1Conv2d, Rank1Linear

M = 3


RELEASED = BatchEnsemble(num_members=M, variant="released")


BACKBONES = [
    {"name": "wide_resnet", "depth": 10, "width": 1},
    {"name": "wide_resnet", "depth": 10, "width": 2, "stride_in": "second", "conv_bias": True},
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
            if layer.member_bias is not None:
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
            if getattr(module, "member_bias", None) is not None:
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


def test_of_a_tiled_batch_every_member_sees_every_image_and_the_loss_is_the_mean_over_members(
    task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe
) -> None:
    task, method = task_of(dtype=torch.float64), BatchEnsemble(num_members=M, batches="tiled")
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


@pytest.mark.parametrize(("variant", "batches"), [("paper", None), ("released", "split")])
def test_of_a_split_batch_each_member_answers_for_its_own_images_alone(
    variant: Any, batches: Any, task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe
) -> None:
    task, method = task_of(dtype=torch.float64), BatchEnsemble(num_members=M, variant=variant, batches=batches)
    network = started(method, task, recipe).eval()
    x_SBCHW, y_SBK = batch_of(1, 6, torch.float64)
    by_hand = 0.0
    for m in range(M):
        member = explicit_member(network, task.network(), m)
        for b in (2 * m, 2 * m + 1):
            logits = member(x_SBCHW[0, b : b + 1])[0].tolist()
            log_sum = math.log(sum(map(math.exp, logits)))
            by_hand += sum(y * (log_sum - z) for y, z in zip(y_SBK[0, b].tolist(), logits, strict=True)) / 6
    assert method.loss(network, x_SBCHW, y_SBK, 0.0).item() == pytest.approx(by_hand, rel=1e-9)


def test_released_batches_are_tiled(task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe) -> None:
    network = started(RELEASED, task_of(), recipe)
    rows: list[int] = []
    network.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    for method in (RELEASED, BatchEnsemble(num_members=M)):
        method.loss(network, *batch_of(1, 6), 0.0)
    assert rows == [M * 6, 6]


def test_a_batch_that_members_do_not_divide_is_an_error_unless_tiled(tiny_study: Callable[..., Any]) -> None:
    entry = {"method": "batch_ensemble", "num_members": 5}
    with pytest.raises(UserError, match=r"tiny: methods\[0\]: .* batch of 32 .* 5 members .* batches: tiled") as error:
        resolved_study(str(tiny_study(methods=[entry])))
    assert "\n" not in str(error.value)
    for allowed in (entry | {"batches": "tiled"}, entry | {"variant": "released"}, entry | {"num_members": 4}):
        resolved_study(str(tiny_study(methods=[allowed])))
    # A deviation of the entry's own recipe is what counts.
    resolved_study(str(tiny_study(methods=[entry | {"recipe": {"batch_size": 40}}])))


@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_of_a_convolution_are_those_of_explicit_kernels_by_the_product_rule(stride: int) -> None:
    conv = Rank1Conv2d(3, 5, 3, stride, 1, True, num_members=M, fast_init="normal").double()
    x_RCHW = torch.randn(M * 2, 3, 6, 6, dtype=torch.float64)
    y_RCHW = conv(x_RCHW)
    upstream_RCHW = torch.randn_like(y_RCHW)
    y_RCHW.backward(upstream_RCHW)
    shared_OIHW = torch.zeros_like(conv.weight)
    for m in range(M):
        rows = slice(2 * m, 2 * m + 2)
        rank1_OI11 = torch.outer(conv.s[m], conv.r[m])[:, :, None, None]
        kernel_OIHW = (conv.weight * rank1_OI11).detach()
        own_OIHW = torch.nn.grad.conv2d_weight(x_RCHW[rows], kernel_OIHW.shape, upstream_RCHW[rows], stride, 1)
        shared_OIHW += own_OIHW * rank1_OI11
        product_OI = (own_OIHW * conv.weight).sum((2, 3))
        torch.testing.assert_close(conv.r.grad[m], conv.s[m] @ product_OI)
        torch.testing.assert_close(conv.s.grad[m], product_OI @ conv.r[m])
        torch.testing.assert_close(conv.member_bias.grad[m], upstream_RCHW[rows].sum((0, 2, 3)))
    torch.testing.assert_close(conv.weight.grad, shared_OIHW)


@pytest.mark.parametrize("method", [BatchEnsemble(num_members=M), RELEASED], ids=["paper", "released"])
def test_gradients_of_the_loss_are_its_slopes(
    method: BatchEnsemble,
    task_of: Callable[..., Task],
    batch_of: Callable[..., Any],
    slopes: Callable[..., tuple[float, float]],
    recipe: Recipe,
) -> None:
    network = started(method, task_of(dtype=torch.float64), recipe)
    for seed in range(3):
        measured, by_gradients = slopes(method, network, batch_of(1, 6, torch.float64), seed=seed)
        assert measured == pytest.approx(by_gradients, rel=1e-5)


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
