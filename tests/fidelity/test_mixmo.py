"""MixMo: features of M images mixed behind M stems, weighed losses of M heads (2103.06132)."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from benchmark.config import Recipe
from benchmark.method import Task
from benchmark.networks.backbone import Backbone, Head
from methods.mimo import Mimo
from methods.mixmo import MixingNetwork, MixMo


def started(method: MixMo, task: Task, recipe: Recipe) -> MixingNetwork:
    [stage] = method.stages(task, recipe)
    network = method.start(stage, task, {})
    assert isinstance(network, MixingNetwork)
    return network


def toy_network(num_members: int, num_classes: int = 4) -> MixingNetwork:
    """Stem, nothing, head: fast enough for hundreds of steps."""

    def backbone() -> Backbone:
        head = Head(nn.Identity(), nn.Linear(2, num_members * num_classes))
        return Backbone(nn.Conv2d(3, 2, 3, padding=1, bias=False), [nn.Identity()], head)

    return MixingNetwork([backbone() for _ in range(num_members)]).double()


def record(network: nn.Module) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Collects images x_MRCHW, masks_RMHW and logits_RMK of every forward pass."""
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    network.register_forward_hook(lambda _, args, out: seen.append((*args, out.detach())))
    return seen


@pytest.mark.parametrize("num_members", [2, 3])
def test_swapping_stems_and_heads_with_the_inputs_changes_nothing_at_equal_weights(
    num_members: int, task_of: Callable[..., Task], recipe: Recipe
) -> None:
    task = task_of(dtype=torch.float64)
    network, swapped = (started(MixMo(num_members=num_members), task, recipe).eval() for _ in range(2))
    swapped.load_state_dict(network.state_dict())
    order = [*range(1, num_members), 0]
    with torch.no_grad():
        for here, there in enumerate(order):
            swapped.stems[here].load_state_dict(network.stems[there].state_dict())
            rows, source = slice(4 * here, 4 * here + 4), slice(4 * there, 4 * there + 4)
            swapped.head.classifier.weight[rows] = network.head.classifier.weight[source]
        x_MRCHW = torch.randn(num_members, 5, 3, 8, 8, dtype=torch.float64)
        equal = torch.full((1, num_members, 1, 1), 1 / num_members, dtype=torch.float64)
        logits_RMK = network(x_MRCHW, equal)
        torch.testing.assert_close(swapped(x_MRCHW[order], equal), logits_RMK[:, order])
        assert not torch.allclose(network(x_MRCHW[order], equal), logits_RMK[:, order])


@pytest.mark.parametrize("name", ["wide_resnet", "resnet", "preact_resnet"])
def test_prediction_is_the_trunk_of_the_sum_of_all_stems(
    name: str, task_of: Callable[..., Task], recipe: Recipe
) -> None:
    method = MixMo(num_members=3)
    network = started(
        method, task_of(name=name, **({"depth": 10, "width": 1} if "wide" in name else {})), recipe
    ).eval()
    x_BCHW = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        features = sum(stem(x_BCHW) for stem in network.stems)
        for group in network.groups:
            features = group(features)
        logits_BK = network.head(features)
        logits_MBK = method.predict({"main": network}, x_BCHW)
    for m in range(3):
        torch.testing.assert_close(logits_MBK[m], logits_BK[:, 4 * m : 4 * m + 4], rtol=1e-4, atol=1e-5)
    weights = [stem.weight for stem in network.stems]
    assert not any(torch.isclose(weights[0], other).double().mean() > 0.01 for other in weights[1:]), (
        "stems start apart"
    )


@pytest.mark.parametrize(("mixing", "num_members"), [("linear", 2), ("linear", 3), ("patch", 2), ("patch", 3)])
@pytest.mark.parametrize("root", [1.0, 3.0])
def test_loss_weighs_members_by_the_shares_seen(
    mixing: Any, num_members: int, root: float, batch_of: Callable[..., Any]
) -> None:
    method = MixMo(num_members=num_members, mixing=mixing, patch_probability=1.0, weight_root=root, batch_repetitions=2)
    network = toy_network(num_members)
    seen = record(network)
    x_SBCHW, y_SBK = batch_of(1, 5, torch.float64)
    loss = method.loss(network, x_SBCHW, y_SBK, 0.0).item()
    [(x_MRCHW, masks_RMHW, logits_RMK)] = seen
    by_hand, shown = 0.0, [Counter[int]() for _ in range(num_members)]
    for r in range(10):
        # λ is taken anew from what the masks show.
        shares = [masks_RMHW[r, m].mean().item() for m in range(num_members)]
        assert sum(shares) == pytest.approx(1.0, abs=1e-6)
        roots = [share ** (1 / root) for share in shares]
        for m in range(num_members):
            [b] = [b for b in range(5) if torch.equal(x_MRCHW[m, r], x_SBCHW[0, b])]
            shown[m][b] += 1
            logits, targets = logits_RMK[r, m].tolist(), y_SBK[0, b].tolist()
            log_sum = math.log(sum(map(math.exp, logits)))
            cross_entropy = sum(y * (log_sum - z) for y, z in zip(targets, logits, strict=True))
            by_hand += num_members * roots[m] / sum(roots) * cross_entropy / 10
    assert loss == pytest.approx(by_hand, rel=1e-5)
    assert shown == [dict.fromkeys(range(5), 2)] * num_members


def test_loss_weights_are_two_to_one_at_a_ninth_and_cube_roots() -> None:
    """By hand: (1/9)^(1/3) : (8/9)^(1/3) = 1 : 2, and the weights sum to M."""
    shares_RM = torch.tensor([[1 / 9, 8 / 9], [0.5, 0.5], [8 / 9, 1 / 9]], dtype=torch.float64)
    weights_RM = MixMo()._loss_weights(shares_RM)
    by_hand = torch.tensor([[2 / 3, 4 / 3], [1.0, 1.0], [4 / 3, 2 / 3]], dtype=torch.float64)
    torch.testing.assert_close(weights_RM, by_hand)
    torch.testing.assert_close(MixMo(weight_root=1.0)._loss_weights(shares_RM), 2 * shares_RM)
    torch.testing.assert_close(MixMo(weight_root=1e9)._loss_weights(shares_RM), torch.ones_like(shares_RM))
    three_RM = torch.tensor([[1 / 36, 8 / 36, 27 / 36]], dtype=torch.float64)
    by_hand = torch.tensor([[0.5, 1.0, 1.5]], dtype=torch.float64)
    torch.testing.assert_close(MixMo(num_members=3)._loss_weights(three_RM), by_hand)


@pytest.mark.parametrize("num_members", [2, 3])
def test_equal_shares_and_a_root_of_one_are_mimo(
    num_members: int, task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe
) -> None:
    task = task_of(dtype=torch.float64)
    method = MixMo(num_members=num_members, mixing="linear", alpha=0.0, weight_root=1.0, batch_repetitions=2)
    mimo = Mimo(num_members=num_members, batch_repetitions=2)
    network = started(method, task, recipe)
    stacked = mimo.start(mimo.stages(task, recipe)[0], task, {})
    with torch.no_grad():
        stacked.stem.weight.copy_(torch.cat([stem.weight for stem in network.stems], dim=1))
    stacked.groups.load_state_dict(network.groups.state_dict())
    stacked.head.load_state_dict(network.head.state_dict())
    losses = []
    for each, its_network in ((method, network), (mimo, stacked)):
        torch.manual_seed(0)
        losses.append(each.loss(its_network.train(), *batch_of(1, 5, torch.float64), 0.5).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize(
    "options", [{"mixing": "linear"}, {"patch_probability": 1.0}, {"variant": "released"}], ids=str
)
def test_gradients_of_the_loss_are_its_slopes(
    options: Any, task_of: Callable[..., Task], batch_of: Callable[..., Any], slopes: Callable[..., Any], recipe: Recipe
) -> None:
    method = MixMo(batch_repetitions=2, **options)
    network = started(method, task_of(dtype=torch.float64), recipe)
    for seed in range(3):
        measured, by_gradients = slopes(method, network, batch_of(1, 5, torch.float64), seed=seed)
        assert measured == pytest.approx(by_gradients, rel=1e-5)


def test_features_are_mixed_by_the_masks_times_the_number_of_members() -> None:
    network = toy_network(2)
    x_MRCHW = torch.randn(2, 3, 3, 8, 8, dtype=torch.float64)
    masks_RMHW = torch.rand(3, 2, 8, 8, dtype=torch.float64)
    mixed = torch.zeros(3, 2, 8, 8, dtype=torch.float64)
    for m in range(2):
        latent = network.stems[m](x_MRCHW[m])
        for c in range(2):
            mixed[:, c] += 2 * masks_RMHW[:, m] * latent[:, c]
    torch.testing.assert_close(network(x_MRCHW, masks_RMHW).flatten(1), network.head(mixed))


@pytest.mark.parametrize(("num_members", "alpha"), [(2, 2.0), (3, 2.0), (2, 0.5)])
def test_linear_shares_are_dirichlet_and_drawn_per_row(num_members: int, alpha: float) -> None:
    network = toy_network(num_members)
    seen = record(network)
    torch.manual_seed(0)
    x_SBCHW, y_SBK = torch.zeros(1, 300, 3, 8, 8).double(), torch.full((1, 300, 4), 0.25).double()
    method = MixMo(num_members=num_members, mixing="linear", alpha=alpha, batch_repetitions=4)
    method.loss(network, x_SBCHW, y_SBK, 0.0)
    masks_RMHW = seen[0][1]
    assert masks_RMHW.shape == (1200, num_members, 1, 1)
    marginal = scipy.stats.beta(alpha, (num_members - 1) * alpha)
    for m in range(num_members):
        shares_R = masks_RMHW[:, m, 0, 0].double().numpy()
        assert scipy.stats.kstest(shares_R, marginal.cdf).pvalue > 1e-3
    assert len(masks_RMHW[:, 0].unique()) > 1190


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 0.5), (0.5, 0.5), (11 / 12, 0.5), (22.5 / 24, 0.375), (23 / 24, 0.25), (23.5 / 24, 0.125), (1.0, 0.0)],
)
def test_probability_of_a_patch_falls_to_zero_over_the_last_twelfth(progress: float, expected: float) -> None:
    assert MixMo()._patch_probability(progress) == pytest.approx(expected)


@pytest.mark.parametrize(("progress", "expected"), [(0.5, 0.5), (23 / 24, 0.25)])
def test_so_many_batches_are_mixed_by_patches(progress: float, expected: float, batch_of: Callable[..., Any]) -> None:
    network, method = toy_network(2), MixMo(batch_repetitions=1)
    seen = record(network)
    batch = batch_of(1, 2, torch.float64)
    for seed in range(200):
        torch.manual_seed(seed)
        method.loss(network, *batch, progress)
    share = sum(masks_RMHW.shape[-1] == 8 for _, masks_RMHW, _ in seen) / 200
    assert share == pytest.approx(expected, abs=0.1)  # three standard deviations


@pytest.mark.parametrize(
    ("mixing", "probability", "is_patch"), [("linear", 1.0, False), ("patch", 1.0, True), ("patch", 0.0, False)]
)
def test_mixing_is_as_asked(mixing: Any, probability: float, is_patch: bool, batch_of: Callable[..., Any]) -> None:
    network = toy_network(2)
    seen = record(network)
    for seed in range(20):
        torch.manual_seed(seed)
        MixMo(mixing=mixing, patch_probability=probability).loss(network, *batch_of(1, 2, torch.float64), 0.5)
    assert all((masks_RMHW.shape[2:] == (8, 8)) == is_patch for _, masks_RMHW, _ in seen)


@pytest.mark.parametrize(
    ("options", "odd"), [({}, True), ({"variant": "released"}, False), ({"box_side": "even"}, False)], ids=str
)
def test_boxes_with_odd_sides_are_drawn_unless_as_released(
    options: Any, odd: bool, batch_of: Callable[..., Any]
) -> None:
    network = toy_network(2)
    seen = record(network)
    for seed in range(40):
        torch.manual_seed(seed)
        MixMo(patch_probability=1.0, batch_repetitions=1, **options).loss(network, *batch_of(1, 6, torch.float64), 0.0)
    heights = set()
    for _, masks_RMHW, _ in seen:
        for mask_HW in masks_RMHW.flatten(0, 1):
            rows_H = mask_HW.amax(1)
            if mask_HW[0].max() == 0 and mask_HW[-1].max() == 0:  # a box that no border clips
                heights.add(int(rows_H.sum()))
    assert any(height % 2 for height in heights) == odd, heights


@pytest.mark.parametrize("stem_stride", [1, 2])
def test_boxes_are_drawn_on_the_stems_features(
    stem_stride: int, task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe
) -> None:
    method = MixMo(patch_probability=1.0, batch_repetitions=1)
    network = started(method, task_of(name="preact_resnet", stem_stride=stem_stride), recipe)
    seen = record(network)
    method.loss(network, *batch_of(1, 2), 0.0)
    assert seen[0][1].shape == (2, 2, 8 // stem_stride, 8 // stem_stride)
    odd = network.stems[0](torch.zeros(1, 3, 7, 9)).shape[2:]
    assert network.feature_size(torch.zeros(1, 3, 7, 9)) == tuple(odd)


def test_only_stems_and_classifier_multiply(task_of: Callable[..., Task], recipe: Recipe) -> None:
    task = task_of()
    plain = sum(parameter.numel() for parameter in task.network().parameters())
    mixed = sum(parameter.numel() for parameter in started(MixMo(num_members=3), task, recipe).parameters())
    assert mixed - plain == 2 * 3 * 9 * 16 + 2 * 4 * (64 + 1)
