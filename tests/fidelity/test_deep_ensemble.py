"""Deep ensembles: members that share nothing but the recipe (1612.01474), trained one by one or all at once."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from benchmark.config import Augmentation, Recipe
from benchmark.data.images import Split
from benchmark.data.stream import Stream
from benchmark.method import Task
from methods.deep_ensemble import DeepEnsemble, StackedNetworks
from methods.single import Single

SEQUENTIAL = DeepEnsemble(num_members=3)
STACKED = DeepEnsemble(num_members=3, execution="stacked")


def member_states(network: nn.Module) -> list[dict[str, torch.Tensor]]:
    """Parameters and buffers of each member of a stacked network, under the names they have alone."""
    assert isinstance(network, StackedNetworks)
    state = {name.removeprefix("stacked.").replace("/", "."): t for name, t in network.state_dict().items()}
    return [{name: tensor[m] for name, tensor in state.items()} for m in range(3)]


def test_loss_of_stacked_members_is_the_sum_of_their_cross_entropies(
    task_of: Callable[..., Task], batch_of: Callable[..., Any], recipe: Recipe
) -> None:
    task = task_of(dtype=torch.float64)
    [stage] = STACKED.stages(task, recipe)
    network = STACKED.start(stage, task, {})
    x_SBCHW, y_SBK = batch_of(3, 5, torch.float64)
    logits_MBK = network(x_SBCHW)
    by_hand = 0.0
    for m in range(3):
        for b in range(5):
            log_sum = math.log(sum(math.exp(z) for z in logits_MBK[m, b].tolist()))
            for z, y in zip(logits_MBK[m, b].tolist(), y_SBK[m, b].tolist(), strict=True):
                by_hand += y * (log_sum - z) / 5
    assert STACKED.loss(network, x_SBCHW, y_SBK, 0.0).item() == pytest.approx(by_hand, rel=1e-12)


def test_stacked_training_gives_the_members_of_sequential_training(
    task_of: Callable[..., Task], batch_of: Callable[..., Any], train: Callable[..., None], recipe: Recipe
) -> None:
    task = task_of(dtype=torch.float64)
    batches = [batch_of(3, 6, torch.float64, seed=step) for step in range(6)]
    [stage] = STACKED.stages(task, recipe)
    stacked = STACKED.start(stage, task, {})
    train(STACKED, stage, stacked, batches)
    for m, stage in enumerate(SEQUENTIAL.stages(task, recipe)):
        alone = SEQUENTIAL.start(stage, task, {})
        before = {name: tensor.clone() for name, tensor in alone.state_dict().items()}
        train(SEQUENTIAL, stage, alone, [(x[m : m + 1], y[m : m + 1]) for x, y in batches])
        after, together = alone.state_dict(), member_states(stacked)[m]
        assert after.keys() == together.keys()
        for name, tensor in after.items():
            assert not torch.equal(tensor, before[name]), f"{name} was not trained"
            torch.testing.assert_close(together[name], tensor, rtol=1e-12, atol=1e-13, msg=name)


def test_trainer_gives_the_same_predictions_either_way(fit: Callable[..., Any], augmented: Recipe) -> None:
    x_BCHW = torch.randn(5, 3, 8, 8)
    predicted = []
    for method in (SEQUENTIAL, STACKED):
        trainer, done = fit(method, augmented)
        assert trainer.ledger.images_seen == 3 * 2 * 48
        with torch.no_grad():
            predicted.append(method.predict(done, x_BCHW))
    torch.testing.assert_close(predicted[0], predicted[1], rtol=1e-3, atol=1e-3)
    assert (predicted[0][0] - predicted[0][1]).abs().max() > 0.1


def test_a_member_of_one_is_the_single_network_but_for_its_draws(fit: Callable[..., Any], recipe: Recipe) -> None:
    _, alone = fit(Single(), recipe)
    _, done = fit(DeepEnsemble(num_members=1), recipe)
    assert list(done) == ["member-0"]
    shapes = [{name: t.shape for name, t in net.state_dict().items()} for net in (alone["main"], done["member-0"])]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("method", [SEQUENTIAL, STACKED], ids=["sequential", "stacked"])
def test_members_start_apart_and_as_the_seed_says(
    method: DeepEnsemble, task_of: Callable[..., Task], recipe: Recipe
) -> None:
    def initial(seed: int) -> list[dict[str, torch.Tensor]]:
        task = task_of(seed=seed)
        networks = [method.start(stage, task, {}) for stage in method.stages(task, recipe)]
        return member_states(networks[0]) if method is STACKED else [net.state_dict() for net in networks]

    members = initial(seed=0)
    for first, second in itertools.combinations([*members, *initial(seed=1)], 2):
        for name in ("stem.weight", "groups.2.0.shortcut.weight", "head.classifier.weight"):
            assert torch.isclose(first[name], second[name]).double().mean() < 0.01, name
    for first, second in zip(members, initial(seed=0), strict=True):
        assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("method", [SEQUENTIAL, STACKED], ids=["sequential", "stacked"])
def test_members_see_all_images_in_their_own_order_and_augmentation(
    method: DeepEnsemble, task_of: Callable[..., Task], recipe: Recipe
) -> None:
    # Channel 0 is the image's number, channel 1 is bright in the left half alone, so that a flip shows.
    images_NHWC = torch.zeros(64, 8, 8, 3, dtype=torch.uint8)
    images_NHWC[..., 0] = torch.arange(64, dtype=torch.uint8)[:, None, None]
    images_NHWC[:, :, :4, 1] = 255
    split = Split(images_NHWC, torch.zeros(64, dtype=torch.int64))
    orders, flipped = [], []
    for name in itertools.chain(*(stage.streams for stage in method.stages(task_of(), recipe))):
        stream = Stream(
            split,
            augmentation=Augmentation(crop_padding=0, flip=True),
            label_smoothing=0.0,
            num_classes=4,
            mean_C=(0.0, 0.0, 0.0),
            std_C=(1 / 255, 1.0, 1.0),
            batch_size=16,
            seed=0,
            name=name,
            device=torch.device("cpu"),
        )
        x_NCHW = torch.cat([stream.batch(step)[0] for step in range(4)])
        numbers = x_NCHW[:, 0, 0, 0].round().int().tolist()
        assert sorted(numbers) == list(range(64))
        orders.append(numbers)
        flipped.append({number: x[1, 0, 0].item() == 0 for number, x in zip(numbers, x_NCHW, strict=True)})
    assert len(orders) == 3
    for m, n in itertools.combinations(range(3), 2):
        assert orders[m] != orders[n]
        differing = sum(flipped[m][number] != flipped[n][number] for number in range(64))
        assert 16 <= differing <= 48, "flips of two members are independent: 32 of 64 differ on average"
