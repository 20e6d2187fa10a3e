"""MIMO: M images in, M answers out of one network (2010.06610)."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.config import Recipe
from benchmark.method import Task
from methods.mimo import Mimo
from methods.pairing import pair
from methods.single import Single

CPU = torch.device("cpu")


def started(method: Mimo | Single, task: Task, recipe: Recipe) -> nn.Module:
    [stage] = method.stages(task, recipe)
    return method.start(stage, task, {})


def record(network: nn.Module) -> list[tuple[Tensor, Tensor]]:
    """Collects what goes into the network and what comes out."""
    seen: list[tuple[Tensor, Tensor]] = []
    network.register_forward_hook(lambda _, args, out: seen.append((args[0].detach(), out.detach())))
    return seen


def number_of(image_CHW: Tensor, x_BCHW: Tensor) -> int:
    """Which of the distinct images this is."""
    [number] = [b for b, x_CHW in enumerate(x_BCHW) if torch.equal(image_CHW, x_CHW)]
    return number


def cross_entropy_by_hand(logits: list[float], targets: list[float]) -> float:
    log_sum = math.log(sum(map(math.exp, logits)))
    return sum(y * (log_sum - z) for y, z in zip(targets, logits, strict=True))


def test_one_member_without_repetition_is_the_single_network(
    task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe
) -> None:
    task, method = task_of(dtype=torch.float64), Mimo(num_members=1, batch_repetitions=1)
    network, plain = started(method, task, recipe), started(Single(), task, recipe)
    shapes = [{name: tensor.shape for name, tensor in net.state_dict().items()} for net in (network, plain)]
    assert shapes[0] == shapes[1]
    network.load_state_dict(plain.state_dict())
    x_SBCHW, y_SBK = batch_of(1, 6, torch.float64)
    logits_BK = plain.eval()(x_SBCHW[0])
    torch.testing.assert_close(method.predict({"main": network.eval()}, x_SBCHW[0])[0], logits_BK)
    # Rows are permuted, so batch statistics agree up to rounding.
    logits_BK = plain.train()(x_SBCHW[0])
    alone = sum(cross_entropy_by_hand(z, y) for z, y in zip(logits_BK.tolist(), y_SBK[0].tolist(), strict=True)) / 6
    assert method.loss(network.train(), x_SBCHW, y_SBK, 0.0).item() == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize(("num_members", "repetitions"), [(1, 1), (2, 1), (3, 4), (4, 3)])
@pytest.mark.parametrize("input_repetition", [0.0, 0.3, 0.5, 1.0])
def test_each_member_sees_each_image_as_often_as_asked(
    num_members: int, repetitions: int, input_repetition: float
) -> None:
    indices_MR = pair(10, num_members, repetitions, input_repetition, CPU)
    assert indices_MR.shape == (num_members, 10 * repetitions)
    for row in indices_MR.tolist():
        assert Counter(row) == dict.fromkeys(range(10), repetitions)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.6, 1.0])
def test_input_repetition_is_the_share_of_rows_in_which_all_members_see_one_image(share: float) -> None:
    torch.manual_seed(0)
    num_images, repetitions = 500, 4
    indices_MR = pair(num_images, 3, repetitions, share, CPU)
    agreeing = (indices_MR == indices_MR[0]).all(0).double().mean().item()
    # Two other members agree with the first by chance in about 1 of 500² rows.
    assert agreeing == pytest.approx(share, abs=0.002)
    by_pairs = (indices_MR[0] == indices_MR[1]).double().mean().item()
    assert by_pairs == pytest.approx(share + (1 - share) / num_images, abs=0.005)


def test_which_images_are_common_changes_from_step_to_step() -> None:
    torch.manual_seed(0)
    common = [frozenset(pair(20, 2, 1, 0.5, CPU)[0, :10].tolist()) for _ in range(20)]
    assert len(set(common)) == 20
    assert frozenset().union(*common) == set(range(20))


def test_members_rows_change_from_step_to_step_and_are_shuffled() -> None:
    torch.manual_seed(0)
    first, second = pair(64, 2, 1, 0.0, CPU), pair(64, 2, 1, 0.0, CPU)
    assert not torch.equal(first, second)
    for row in (*first, *second):
        assert not torch.equal(row, torch.arange(64))


@pytest.mark.parametrize(("num_images", "blocks"), [(16, [16]), (48, [16, 16, 16]), (20, [16, 4]), (5, [5])])
def test_pairing_within_so_many_images_never_crosses_them(num_images: int, blocks: list[int]) -> None:
    torch.manual_seed(0)
    indices_MR = pair(num_images, 3, 4, 0.25, CPU, within=16)
    assert indices_MR.shape == (3, 4 * num_images)
    first_image, first_row = 0, 0
    for size in blocks:
        for row in indices_MR[:, first_row : first_row + 4 * size].tolist():
            assert Counter(row) == dict.fromkeys(range(first_image, first_image + size), 4)
        common = indices_MR[:, first_row : first_row + size]
        assert (common == common[0]).all(), "a quarter of a block's rows"
        first_image, first_row = first_image + size, first_row + 4 * size


@pytest.mark.parametrize(
    ("options", "partners"),
    [
        ({}, 64),
        ({"variant": "released"}, 16),
        ({"pairing_images": 8}, 8),
        ({"variant": "released", "pairing_images": "batch"}, 64),
    ],
    ids=str,
)
def test_an_image_meets_those_of_its_batch_or_as_released_of_its_sixteen(options: Any, partners: int) -> None:
    """A network that only shows who is paired: image b is b everywhere."""
    method = Mimo(num_members=2, **options)
    x_SBCHW = torch.arange(64.0)[None, :, None, None, None].expand(1, 64, 1, 2, 2)
    met: dict[int, set[int]] = {b: set() for b in range(64)}

    def meet(x_RCHW: Tensor) -> Tensor:
        for first, second in x_RCHW[:, :, 0, 0].int().tolist():
            met[first].add(second)
        return torch.zeros(len(x_RCHW), 2 * 4)

    for seed in range(200):
        torch.manual_seed(seed)
        method.loss(meet, x_SBCHW, torch.full((1, 64, 4), 0.25), 0.0)
    for b, others in met.items():
        block = b // partners * partners
        assert others == set(range(block, block + partners))


def test_gradients_of_the_loss_are_its_slopes(
    task_of: Callable[..., Task], batch_of: Callable[..., Any], slopes: Callable[..., Any], recipe: Recipe
) -> None:
    method = Mimo(num_members=3, batch_repetitions=2)
    network = started(method, task_of(dtype=torch.float64), recipe)
    for seed in range(3):
        measured, by_gradients = slopes(method, network, batch_of(1, 5, torch.float64), seed=seed)
        assert measured == pytest.approx(by_gradients, rel=1e-5)


def test_untrained_heads_cost_the_logarithm_of_the_classes_each(batch_of: Callable[..., Any]) -> None:
    """By hand: equal logits give every member ln K, whatever the targets; the members' losses are summed."""
    for num_members in (1, 2, 3):
        method = Mimo(num_members=num_members, batch_repetitions=2)
        loss = method.loss(lambda x_RCHW, m=num_members: x_RCHW.new_zeros(len(x_RCHW), 4 * m), *batch_of(1, 5), 0.0)
        assert loss.item() == pytest.approx(num_members * math.log(4), rel=1e-6)


@pytest.mark.parametrize("input_repetition", [0.0, 0.5])
def test_loss_is_the_mean_over_rows_of_the_sum_over_members(
    input_repetition: float, task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe
) -> None:
    task = task_of(dtype=torch.float64)
    method = Mimo(num_members=3, batch_repetitions=2, input_repetition=input_repetition)
    network = started(method, task, recipe)
    seen = record(network)
    x_SBCHW, y_SBK = batch_of(1, 5, torch.float64)
    loss = method.loss(network, x_SBCHW, y_SBK, 0.0).item()
    [(rows, outputs)] = seen
    assert rows.shape == (10, 3 * 3, 8, 8)
    assert outputs.shape == (10, 3 * 4)
    by_hand, shown = 0.0, [Counter[int]() for _ in range(3)]
    for r in range(10):
        for m in range(3):
            # Member m's image fills channels 3m to 3m + 2; its answer is logits 4m to 4m + 3.
            b = number_of(rows[r, 3 * m : 3 * m + 3], x_SBCHW[0])
            shown[m][b] += 1
            by_hand += cross_entropy_by_hand(outputs[r, 4 * m : 4 * m + 4].tolist(), y_SBK[0, b].tolist()) / 10
    assert loss == pytest.approx(by_hand, rel=1e-6)
    assert shown == [dict.fromkeys(range(5), 2)] * 3


def test_prediction_shows_the_image_to_all_members_in_the_order_of_training(
    task_of: Callable[..., Task], recipe: Recipe
) -> None:
    task, method = task_of(), Mimo(num_members=3)
    network = started(method, task, recipe).eval()
    seen = record(network)
    x_BCHW = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        logits_MBK = method.predict({"main": network}, x_BCHW)
    [(rows, outputs)] = seen
    assert logits_MBK.shape == (3, 4, 4)
    for m in range(3):
        assert torch.equal(rows[:, 3 * m : 3 * m + 3], x_BCHW)
        assert torch.equal(logits_MBK[m], outputs[:, 4 * m : 4 * m + 4])


def test_the_wide_stem_sums_a_stem_per_member(task_of: Callable[..., Task], recipe: Recipe) -> None:
    network = started(Mimo(num_members=3), task_of(dtype=torch.float64), recipe)
    x_RCHW = torch.randn(2, 9, 8, 8, dtype=torch.float64)
    parts = [
        F.conv2d(x_RCHW[:, 3 * m : 3 * m + 3], network.stem.weight[:, 3 * m : 3 * m + 3], padding=1) for m in range(3)
    ]
    torch.testing.assert_close(network.stem(x_RCHW), parts[0] + parts[1] + parts[2])


@pytest.mark.parametrize("name", ["wide_resnet", "resnet", "preact_resnet"])
def test_only_stem_and_classifier_grow(name: str, task_of: Callable[..., Task], recipe: Recipe) -> None:
    task = task_of(name=name, **({"depth": 10, "width": 1} if name == "wide_resnet" else {}))
    network, plain = started(Mimo(num_members=3), task, recipe), started(Single(), task, recipe)
    features = plain.head.classifier.in_features
    own = 2 * 3 * 9 * plain.stem.out_channels + 2 * 4 * (features + 1)  # two more stems and heads
    counts = [sum(parameter.numel() for parameter in net.parameters()) for net in (network, plain)]
    assert counts[0] - counts[1] == own
