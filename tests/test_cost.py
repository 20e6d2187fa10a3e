"""What is charged: FLOPs and parameters against closed forms and an independent count by hooks."""

import copy
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.config import Recipe
from benchmark.cost import (
    Clock,
    FlopCounter,
    count_parameters,
    count_undecayed,
    loss_flops,
    measure_prediction,
    member_loss_weight,
    predict_flops,
)
from benchmark.method import Method, Task
from benchmark.networks.preact_resnet import PreActResNet
from benchmark.networks.resnet import ResNet
from benchmark.networks.wide_resnet import WideResNet
from methods import METHODS, fission

RECIPE = Recipe(epochs=1, batch_size=6, learning_rate=0.1)
SHAPE, K = (3, 8, 8), 4
SMALL = WideResNet(10, 1)


def task_on(network: Any = SMALL, num_classes: int = K) -> Task:
    def build(**parts: Any) -> nn.Module:
        return network.build(**({"in_channels": 3, "num_outputs": num_classes} | parts))

    def train_batch(num_images: int) -> tuple[Tensor, Tensor]:
        return torch.randn(num_images, *SHAPE), torch.arange(num_images) % num_classes

    return Task("", num_classes, SHAPE, 0, build, train_batch)


def flops_by_hooks(network: nn.Module, x_BCHW: Tensor) -> dict[str, int]:
    """Of a plain network, by layer: 2 per multiply-add of convolutions and the classifier."""
    counts: dict[str, int] = {}

    def counter(name: str) -> Callable[..., None]:
        def count(module: Any, _: Any, output: Tensor) -> None:
            counts[name] = 2 * output.numel() * module.weight[0].numel()

        return count

    hooks = [
        module.register_forward_hook(counter(name))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    network(x_BCHW)
    for hook in hooks:
        hook.remove()
    return counts


def start_all(method: Method, task: Task) -> dict[str, nn.Module]:
    """All stages' networks as they start."""
    done: dict[str, nn.Module] = {}
    for stage in method.stages(task, RECIPE):
        done[stage.name] = method.start(stage, task, done).eval()
    return done


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolutions_take_two_flops_per_multiply_add(groups: int) -> None:
    x_BCHW, weight = torch.randn(3, 8, 10, 10), torch.randn(12, 8 // groups, 3, 3)
    with FlopCounter() as counter:
        F.conv2d(x_BCHW, weight, stride=2, padding=1, groups=groups)
    assert counter.executed == 2 * 3 * 12 * 5 * 5 * (8 // groups) * 9
    assert counter.nonzero == counter.executed


@pytest.mark.parametrize("has_bias", [True, False])
def test_linear_layers_take_two_flops_per_weight_and_row(has_bias: bool) -> None:
    linear = nn.Linear(7, 5, bias=has_bias)
    nn.init.zeros_(linear.weight[:2])
    with torch.no_grad(), FlopCounter() as counter:
        linear(torch.randn(3, 7))
    assert counter.executed == 2 * 3 * 7 * 5
    assert counter.nonzero == pytest.approx(counter.executed * 3 / 5)


@pytest.mark.parametrize("groups", [1, 2])
def test_only_forward_passes_are_counted(groups: int) -> None:
    conv, linear = nn.Conv2d(4, 8, 3, groups=groups), nn.Linear(8, 5)
    x_BCHW = torch.randn(2, 4, 6, 6, requires_grad=True)
    forward = 2 * (2 * 8 * 4 * 4 * (4 // groups) * 9 + 2 * 8 * 5)
    with FlopCounter() as counter:
        linear(conv(x_BCHW).mean((2, 3))).sum().backward()
    assert counter.executed == forward
    with FlopCounter() as counter:
        loss = linear(conv(x_BCHW).mean((2, 3))).sum()
        torch.autograd.grad(loss, [conv.weight, x_BCHW])
        linear(conv(x_BCHW).mean((2, 3)))
    assert counter.executed == 2 * forward


def test_nonzero_flops_count_each_layers_nonzero_weights() -> None:
    first, second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
    with torch.no_grad():
        first.weight[0] = 0
        second.weight.view(-1)[:12] = 0
        with FlopCounter() as counter:
            second(first(torch.zeros(1, 2, 5, 5)))
    dense = [2 * 25 * 4 * 2 * 9, 2 * 25 * 4 * 4]
    assert counter.executed == sum(dense)
    assert counter.nonzero == pytest.approx(dense[0] * 3 / 4 + dense[1] * 1 / 4), "blank inputs are no zeros of weights"


@pytest.mark.parametrize("network", [WideResNet(16, 1, "second"), ResNet(18), PreActResNet()], ids=repr)
def test_single_training_and_prediction_are_the_sum_over_layers(network: Any) -> None:
    task, method = task_on(network), METHODS["single"]()
    [stage] = method.stages(task, RECIPE)
    done = start_all(method, task)
    before = {name: tensor.clone() for name, tensor in done["main"].state_dict().items()}
    expected = sum(flops_by_hooks(done["main"], torch.zeros(1, *SHAPE)).values())
    counter = loss_flops(method, done["main"], task, stage)
    assert counter.executed == 6 * expected
    assert predict_flops(method, done, task).executed == expected
    assert all(torch.equal(tensor, before[name]) for name, tensor in done["main"].state_dict().items())
    assert not done["main"].training


def relative_costs(name: str, **options: Any) -> tuple[float, float]:
    """Training and prediction of a method over those of the single network's."""
    task = task_on()
    costs = []
    for method in (METHODS[name](**options), METHODS["single"]()):
        done = start_all(method, task)
        stages = method.stages(task, RECIPE)
        training = sum(loss_flops(method, done[s.name], task, s).executed * s.epochs for s in stages)
        costs.append((training, predict_flops(method, done, task).executed))
    return costs[0][0] / costs[1][0], costs[0][1] / costs[1][1]


def share_of(*names: str) -> float:
    """Of the single network's FLOPs, what the named layers take."""
    counts = flops_by_hooks(task_on().network().eval(), torch.zeros(1, *SHAPE))
    return sum(flops for name, flops in counts.items() if name.startswith(names)) / sum(counts.values())


@pytest.mark.parametrize("execution", ["sequential", "stacked"])
def test_a_deep_ensemble_costs_its_members(execution: str) -> None:
    assert relative_costs("deep_ensemble", num_members=3, execution=execution) == pytest.approx((3, 3))


def test_batch_ensemble_costs_a_network_per_member_to_ask_and_to_train_on_tiled_batches() -> None:
    assert relative_costs("batch_ensemble", num_members=4, batches="split") == pytest.approx((1, 4))
    assert relative_costs("batch_ensemble", num_members=4, batches="tiled") == pytest.approx((4, 4))


@pytest.mark.parametrize("repetitions", [1, 4])
@pytest.mark.parametrize("name", ["mimo", "mixmo"])
def test_many_inputs_cost_stems_and_heads_and_repeated_rows(name: str, repetitions: int) -> None:
    training, prediction = relative_costs(name, num_members=3, batch_repetitions=repetitions)
    expected = 1 + 2 * share_of("stem", "head")
    assert prediction == pytest.approx(expected)
    assert training == pytest.approx(repetitions * expected)


@pytest.mark.parametrize(("num_exits", "copies"), [(2, (0, 1, 1, 1)), (3, (0, 1, 2, 2)), (5, (0, 1, 4, 4))])
def test_fission_executes_a_dense_pass_per_branch(num_exits: int, copies: tuple[int, ...]) -> None:
    parts = ("groups.0", "groups.1", "groups.2", "head")
    expected = 1 + sum(more * share_of(part) for more, part in zip(copies, parts, strict=True))
    assert relative_costs("nfe", num_members=num_exits) == pytest.approx((expected, expected))


@pytest.mark.parametrize("options", [{"variant": "released"}, {"grouping": "dense"}], ids=["released", "dense"])
def test_branches_with_weights_of_their_own_execute_the_same_and_are_dense(options: dict[str, str]) -> None:
    expected = relative_costs("nfe", num_members=3)
    assert relative_costs("nfe", num_members=3, **options) == pytest.approx(expected)
    task, method = task_on(), METHODS["nfe"](num_members=3, **options)
    counter = predict_flops(method, start_all(method, task), task)
    assert counter.nonzero == pytest.approx(counter.executed, rel=1e-6)


def test_distilled_heads_cost_heads() -> None:
    expected = 1 + 3 * share_of("head")
    assert relative_costs("distilled_heads", num_members=4) == pytest.approx((expected, expected))


def test_prune_and_tune_trains_for_one_network_and_predicts_with_all_children() -> None:
    assert relative_costs("prune_and_tune", num_members=4) == pytest.approx((1, 4))


def test_half_of_the_weights_are_half_of_the_convolutions_nonzero_flops() -> None:
    task, method = task_on(), METHODS["prune_and_tune"](num_members=2)
    counter = predict_flops(method, start_all(method, task), task)
    head = share_of("head")
    # Two complementary halves of the convolutions and two whole classifiers.
    assert counter.nonzero / counter.executed == pytest.approx((0.5 * (1 - head) + head), rel=1e-3)


@pytest.mark.parametrize(
    ("num_exits", "stride_in", "executed"),
    [(2, "first", 1.68), (3, "first", 2.02), (2, "second", 1.72), (3, "second", 2.08)],
)
def test_fission_of_wrn_28_10_executes_what_its_nonzero_weights_hide(
    num_exits: int, stride_in: Any, executed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deal_in_turn(kept: Tensor, parts: Sequence[int]) -> Tensor:
        """As good as at random for counting equal parts, and fast on 36 million weights."""
        return (torch.arange(kept.numel()) % len(parts)).to(torch.int8).view_as(kept)

    monkeypatch.setattr(fission, "deal_in_parts", deal_in_turn)
    # All sizes are a quarter of those at 32x32 in either direction, so that all ratios are the same.
    task, method = task_on(WideResNet(28, 10, stride_in), num_classes=100), METHODS["nfe"](num_members=num_exits)
    done = start_all(method, task)
    with torch.device("meta"):
        plain = task.network().eval()
        counts = flops_by_hooks(plain, torch.empty(1, *SHAPE))
    convolutions = sum(flops for name, flops in counts.items() if not name.startswith("head"))
    head = 2 * 100 * 640
    counter = predict_flops(method, done, task)
    assert (counter.executed - num_exits * head) / convolutions == pytest.approx(executed, abs=0.005)
    assert (counter.nonzero - num_exits * head) / convolutions == pytest.approx(1.0, abs=1e-4)
    stored, single = (
        sum(parameter.numel() for parameter in network.parameters() if parameter.dim() == 4)
        for network in (done["main"], plain)
    )
    assert stored == single, "convolution weights are stored once"


def test_the_parent_of_prune_and_tune_is_no_part_of_what_predicts() -> None:
    task, method = task_on(), METHODS["prune_and_tune"](num_members=3)
    plain = task.network()
    in_convolutions = sum(m.weight.numel() for m in plain.modules() if isinstance(m, nn.Conv2d))
    total = sum(parameter.numel() for parameter in plain.parameters())
    done = start_all(method, task)
    with torch.no_grad():
        for network in done.values():
            for parameter in network.parameters():
                if parameter.dim() != 4:
                    parameter.fill_(1.0)
    counted = count_parameters(method, done, task)
    assert counted["parameters"] == 3 * total
    assert counted["nonzero_parameters"] == pytest.approx(3 * (total - in_convolutions / 2), abs=3 * 10)


def test_four_members_by_batch_ensemble_add_two_thousandths_to_wrn_28_10s_parameters() -> None:
    def build(**parts: Any) -> nn.Module:
        with torch.device("meta"):
            return WideResNet(28, 10).build(3, 10, **parts)

    task, method = Task("", 10, (3, 32, 32), 0, build, lambda _: None), METHODS["batch_ensemble"](num_members=4)
    [network] = start_all(method, task).values()
    # C_in + C_out of the stem, of each group's nine convolutions, of the classifier.
    vectors = (3 + 16) + (2 * 176 + 7 * 320) + (2 * 480 + 7 * 640) + (2 * 960 + 7 * 1280) + (640 + 10)
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    assert num_parameters == 36_479_194 + 4 * vectors + 3 * 10  # and three more biases of the classifier
    # The papers' tables round to 36.6 M over 36.5 M, 1.003.
    assert num_parameters / 36_479_194 == pytest.approx(1.00215, abs=5e-6)


@pytest.mark.parametrize("execution", ["sequential", "stacked"])
def test_parameters_of_a_deep_ensemble_are_its_members(execution: str) -> None:
    task, method = task_on(), METHODS["deep_ensemble"](num_members=3, execution=execution)
    total = sum(parameter.numel() for parameter in task.network().parameters())
    assert count_parameters(method, start_all(method, task), task)["parameters"] == 3 * total


@pytest.mark.parametrize(("pruning", "num_images"), [("snip", 32), ("grasp", 32), ("synflow", 100), ("random", 0)])
def test_pruning_is_charged_the_images_that_it_scores_on(pruning: Any, num_images: int) -> None:
    """SynFlow's are a hundred times one image of ones. That GraSP goes backward twice isn't counted."""
    task, method = task_on(), METHODS["nfe"](num_members=2, sparsity=0.5, snip_images=32, pruning=pruning)
    per_image = sum(flops_by_hooks(task.network().eval(), torch.zeros(1, *SHAPE)).values())
    with FlopCounter() as counter:
        start_all(method, task)
    assert counter.executed == num_images * per_image


def test_latency_and_throughput_are_positive_and_in_their_units() -> None:
    task, method = task_on(), METHODS["single"]()
    done = start_all(method, task)
    measured = measure_prediction(partial(method.predict, done), torch.randn(10, *SHAPE))
    assert set(measured) == {"latency_ms_batch1", "throughput_batch256"}
    assert 0.01 < measured["latency_ms_batch1"] < 1000
    # A batch of 256 is no slower per image than an image alone.
    assert measured["throughput_batch256"] > 1000 / measured["latency_ms_batch1"]


def test_training_is_charged_the_energy_that_the_device_reports() -> None:
    clock = Clock(torch.device("cpu"), joules=100.0)
    assert clock.meter is None  # a CPU reports none
    clock.meter = iter([7.0, 12.0]).__next__
    with clock.section("train"):
        pass
    with clock.section("evaluation"):  # is not asked
        pass
    assert clock.joules == 105.0


LOSS_WEIGHTS: list[tuple[str, dict[str, Any], float]] = [
    ("single", {}, 1),
    ("deep_ensemble", {"num_members": 3, "execution": "stacked"}, 1),
    ("batch_ensemble", {"num_members": 3, "batches": "tiled"}, 1 / 3),
    ("batch_ensemble", {"num_members": 3, "batches": "split"}, 1 / 3),
    ("mimo", {"num_members": 3}, 1),
    ("mixmo", {"num_members": 2}, 1),
    ("mixmo", {"num_members": 2, "mixing": "linear"}, 1),
    ("nfe", {"num_members": 3}, 1),
    ("nfe", {"num_members": 2, "distillation": False}, 1),
]


@pytest.mark.parametrize(("name", "options", "weight"), LOSS_WEIGHTS)
def test_a_members_loss_counts_as_the_papers_reduce_it(name: str, options: dict[str, Any], weight: float) -> None:
    """Sums in MIMO, MixMo and NFE, a mean in BatchEnsemble (reference: their released code)."""
    method, task = METHODS[name](**options), task_on()
    [stage] = method.stages(task, RECIPE)
    network = method.start(stage, task, {})
    before = copy.deepcopy(network.state_dict())
    measured = member_loss_weight(method, network, task, stage, method.num_members)
    assert measured == pytest.approx(weight, abs=1e-5)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", METHODS)
def test_only_fast_weights_are_left_undecayed(name: str) -> None:
    method, task = METHODS[name](), task_on()
    stage = method.stages(task, RECIPE)[0]
    network = method.start(stage, task, {})
    fast = [p.numel() for key, p in network.named_parameters() if key.rpartition(".")[2] in ("r", "s")]
    assert count_undecayed(method, network, stage) == sum(fast)
    assert bool(fast) == (name == "batch_ensemble")
