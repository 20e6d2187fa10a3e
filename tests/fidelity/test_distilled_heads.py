"""The control of Network Fission Ensembles: distilled heads on one undivided network."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from benchmark.config import Recipe
from benchmark.method import Task
from methods.distilled_heads import DistilledHeads
from methods.nfe import Nfe


def started(method: DistilledHeads | Nfe, task: Task, recipe: Recipe) -> nn.Module:
    [stage] = method.stages(task, recipe)
    torch.manual_seed(0)
    return method.start(stage, task, {})


@pytest.mark.parametrize("backbone", [{}, {"name": "resnet", "depth": 18}, {"name": "preact_resnet"}])
def test_every_head_reads_the_features_of_the_one_network(
    backbone: dict[str, Any], task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe
) -> None:
    method, task = DistilledHeads(num_members=3), task_of(**backbone)
    network = started(method, task, recipe).eval()
    torch.manual_seed(0)
    single = task.network().eval()
    x_BCHW = batch_of(1, 4)[0][0]
    features = single.stem(x_BCHW)
    for group in single.groups:
        features = group(features)
    logits_MBK = method.predict({"main": network}, x_BCHW)
    torch.testing.assert_close(logits_MBK[0], single.head(features))
    for logits_BK, head in zip(logits_MBK, network.heads, strict=True):
        torch.testing.assert_close(logits_BK, head(features))
    assert not torch.allclose(logits_MBK[1], logits_MBK[0])
    assert not torch.allclose(logits_MBK[1], logits_MBK[2]), "heads start apart"
    sizes = [sum(p.numel() for p in module.parameters()) for module in (network, single, single.head)]
    assert sizes[0] == sizes[1] + 2 * sizes[2], "two more heads and nothing else"


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("distillation", [True, False])
def test_loss_is_cross_entropy_of_all_heads_and_their_divergence_from_the_mean_of_logits(
    distillation: bool,
    temperature: float,
    task_of: Callable[..., Task],
    batch_of: Callable[..., Any],
    recipe: Recipe,
) -> None:
    method = DistilledHeads(num_members=2, distillation=distillation, temperature=temperature)
    network = started(method, task_of(dtype=torch.float64), recipe)
    x_SBCHW, y_SBK = batch_of(1, 3, torch.float64)

    def softmax(logits: list[float], t: float) -> list[float]:
        powers = [math.exp(z / t) for z in logits]
        return [power / sum(powers) for power in powers]

    logits, expected = network(x_SBCHW[0]).tolist(), 0.0
    for b, y_K in enumerate(y_SBK[0].tolist()):
        teacher = softmax([(u + v) / 2 for u, v in zip(logits[0][b], logits[1][b], strict=True)], temperature)
        for member in logits:
            expected -= sum(y * math.log(p) for y, p in zip(y_K, softmax(member[b], 1.0), strict=True)) / 3
            if distillation:
                student = softmax(member[b], temperature)
                divergence = sum(q * math.log(q / p) for q, p in zip(teacher, student, strict=True))
                expected += temperature**2 * divergence / 3
    assert method.loss(network, x_SBCHW, y_SBK, 0.0).item() == pytest.approx(expected, rel=1e-5)


def test_its_loss_is_the_exits_own(task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe) -> None:
    """So that only the network differs between the control and what it controls."""
    control, method = DistilledHeads(num_members=3), Nfe(num_members=3)
    network = started(control, task_of(), recipe)
    batch = batch_of(1, 4)
    assert torch.equal(control.loss(network, *batch, 0.0), method.loss(network, *batch, 0.0))
