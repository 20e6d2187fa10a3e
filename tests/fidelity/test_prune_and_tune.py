"""Prune and Tune: masked copies of a trained parent, tuned briefly (2202.11782)."""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from benchmark.config import Recipe
from benchmark.method import Done, Task
from methods.masks import MaskedNetwork
from methods.prune_and_tune import PruneAndTune


def dense_parent(task: Task) -> Done:
    """A parent as training leaves it: no weight is zero, biases and norms have moved."""
    torch.manual_seed(5)
    network = task.network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1 + 0.01)
    return {"parent": network.eval()}


def children_of(method: PruneAndTune, task: Task, recipe: Recipe, done: Done) -> list[nn.Module]:
    return [method.start(stage, task, done) for stage in method.stages(task, recipe)[1:]]


def kept(child: nn.Module) -> dict[str, Tensor]:
    """Which convolution weights a child kept, read off its weights."""
    return {name: m.weight.detach() != 0 for name, m in child.network.named_modules() if isinstance(m, nn.Conv2d)}


def test_anti_random_children_are_complementary_halves_of_every_layer(
    task_of: Callable[..., Task], recipe: Recipe
) -> None:
    task = task_of()
    children = children_of(PruneAndTune(num_members=6), task, recipe, dense_parent(task))
    assert len(children) == 6
    for first, second in zip(children[::2], children[1::2], strict=True):
        masks, anti_masks = kept(first), kept(second)
        assert len(masks) == 1 + 6 + 2  # stem, two per block, two shortcuts
        for name, mask in masks.items():
            assert torch.equal(mask, ~anti_masks[name]), name
            assert abs(int(mask.sum()) - mask.numel() / 2) <= 1, name


@pytest.mark.parametrize("masks", ["anti_random", "random"])
def test_families_draw_masks_of_their_own(masks: Any, task_of: Callable[..., Task], recipe: Recipe) -> None:
    task = task_of()
    method = PruneAndTune(num_members=4, masks=masks, sparsity=0.5 if masks == "random" else None)
    children = children_of(method, task, recipe, dense_parent(task))
    pairs = [(0, 2), (0, 3), (1, 2)] if masks == "anti_random" else [(0, 1), (0, 2), (1, 2), (2, 3)]
    for i, j in pairs:
        first, second = (kept(children[k])["groups.2.0.conv2.weight".removesuffix(".weight")] for k in (i, j))
        agreeing = (first == second).double().mean().item()
        assert 0.47 < agreeing < 0.53, "independent halves agree on half of the positions"


def test_an_odd_child_out_is_not_lost(task_of: Callable[..., Task], recipe: Recipe) -> None:
    task = task_of()
    children = children_of(PruneAndTune(num_members=3), task, recipe, dense_parent(task))
    assert len(children) == 3
    for name, mask in kept(children[2]).items():
        assert abs(int(mask.sum()) - mask.numel() / 2) <= 1, name


@pytest.mark.parametrize("num_members", [2, 3, 5])
def test_a_partition_gives_every_weight_to_exactly_one_child(
    num_members: int, task_of: Callable[..., Task], recipe: Recipe
) -> None:
    task = task_of()
    children = children_of(PruneAndTune(num_members=num_members, masks="partition"), task, recipe, dense_parent(task))
    masks = [kept(child) for child in children]
    for name, first in masks[0].items():
        assert torch.equal(sum(mask[name].int() for mask in masks), torch.ones_like(first, dtype=torch.int32)), name
        for mask in masks:
            assert abs(int(mask[name].sum()) - first.numel() / num_members) < 1, name


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_random_masks_hit_the_sparsity_in_every_layer(
    sparsity: float, task_of: Callable[..., Task], recipe: Recipe
) -> None:
    task = task_of()
    method = PruneAndTune(num_members=2, masks="random", sparsity=sparsity)
    for child in children_of(method, task, recipe, dense_parent(task)):
        for name, mask in kept(child).items():
            assert abs(int((~mask).sum()) - sparsity * mask.numel()) <= 1, name


@pytest.mark.parametrize("name", ["wide_resnet", "resnet", "preact_resnet"])
def test_kept_weights_and_all_but_convolutions_are_the_parents(
    name: str, task_of: Callable[..., Task], recipe: Recipe
) -> None:
    task = task_of(name=name, **({"depth": 10, "width": 1} if name == "wide_resnet" else {}))
    done = dense_parent(task)
    before = copy.deepcopy(done["parent"].state_dict())
    method = PruneAndTune(num_members=2)
    child = method.start(method.stages(task, recipe)[1], task, done)
    convolutions = {name + ".weight" for name, m in child.network.named_modules() if isinstance(m, nn.Conv2d)}
    for key, tensor in child.network.state_dict().items():
        expected = torch.where(tensor != 0, before[key], 0) if key in convolutions else before[key]
        assert torch.equal(tensor, expected), key
        assert torch.equal(done["parent"].state_dict()[key], before[key]), "the parent was changed"
    assert not {p.data_ptr() for p in child.parameters()} & {p.data_ptr() for p in done["parent"].parameters()}


def test_tuning_equals_training_with_masks_in_the_forward_pass(
    task_of: Callable[..., Task], batch_of: Callable[..., Any], train: Callable[..., None], recipe: Recipe
) -> None:
    """torch.nn.utils.prune multiplies weight and mask in every forward pass, as the released code does."""
    task, method = task_of(dtype=torch.float64), PruneAndTune(num_members=2)
    done = dense_parent(task)
    stage = method.stages(task, recipe)[1]
    batches = [batch_of(1, 6, torch.float64, seed=step) for step in range(8)]
    child = method.start(stage, task, done)
    masks = kept(child)
    reference = copy.deepcopy(done["parent"])
    for name, mask in masks.items():
        prune.custom_from_mask(reference.get_submodule(name), "weight", mask)
    train(method, stage, child, batches)
    train(method, stage, reference, batches)
    for name in masks:
        prune.remove(reference.get_submodule(name), "weight")
    for name, module in child.network.named_modules():
        for key, tensor in module.named_parameters(recurse=False):
            other = getattr(reference.get_submodule(name), key)
            torch.testing.assert_close(tensor.data, other.data, rtol=1e-5, atol=1e-7, msg=f"{name}.{key}")
        if isinstance(module, nn.Conv2d):
            assert (module.weight[~masks[name]] == 0).all()
            assert (module.weight[masks[name]] != 0).all()


def test_pruned_weights_stay_exactly_zero_under_the_trainer(fit: Callable[..., Any], recipe: Recipe) -> None:
    method = PruneAndTune(num_members=4, parent_share=0.5)
    trainer, done = fit(method, recipe.model_copy(update={"epochs": 4}))
    assert list(done) == ["parent", "child-0", "child-1", "child-2", "child-3"]
    assert all((parameter != 0).all() for name, parameter in done["parent"].named_parameters() if "stem" in name)
    for m in range(4):
        for name, buffer in done[f"child-{m}"].named_buffers():
            if name.startswith("keep/"):
                weight = done[f"child-{m}"].network.get_submodule(name[5:].replace("/", ".")).weight
                assert (weight[~buffer] == 0).all()
                assert abs(int(torch.count_nonzero(weight)) - weight.numel() / 2) <= 1
    assert trainer.ledger.images_seen == 4 * 48, "parent and children together see what one network would"


def test_as_released_the_dense_parent_is_a_member_more(task_of: Callable[..., Task], recipe: Recipe) -> None:
    task, method = task_of(), PruneAndTune(num_members=3, variant="released")
    done = dense_parent(task)
    stages = method.stages(task, recipe.model_copy(update={"epochs": 200.0}))
    assert [stage.name for stage in stages] == ["parent", "child-0", "child-1"]
    assert [stage.epochs for stage in stages] == pytest.approx([140.0, 30.0, 30.0])
    for stage in stages[1:]:
        done[stage.name] = method.start(stage, task, done).eval()
    masks, anti_masks = kept(done["child-0"]), kept(done["child-1"])
    assert all(torch.equal(mask, ~anti_masks[name]) for name, mask in masks.items())
    x_BCHW = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        logits_MBK = method.predict(done, x_BCHW)
        assert logits_MBK.shape == (3, 5, 4)
        for m, name in enumerate(("child-0", "child-1", "parent")):
            assert torch.equal(logits_MBK[m], done[name](x_BCHW))
    with pytest.raises(ValueError, match="at least 2"):
        PruneAndTune(num_members=1, variant="released")


@pytest.mark.parametrize("backbone", [{"depth": 10, "width": 1}, {"depth": 10, "width": 2}])
def test_masks_keep_as_many_weights_as_torchs_random_pruning_by_half(
    backbone: Any, task_of: Callable[..., Task], recipe: Recipe
) -> None:
    """What the released code calls, for the first of a pair; the second keeps the rest."""
    task = task_of(**backbone)
    done = dense_parent(task)
    masks = kept(children_of(PruneAndTune(num_members=2), task, recipe, done)[0])
    for name, module in done["parent"].named_modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous()
            prune.random_unstructured(module, "weight", amount=0.5)
            assert int(masks.pop(name).sum()) == int(module.weight_mask.sum()), name
    assert not masks


def test_of_a_linear_layer_of_two_weights_a_pruned_one_gets_no_gradient() -> None:
    """By hand: z = w x, p = softmax(z), dL/dw_k = (p_k - y_k) x; the pruned weight is 0 before the step and after."""
    conv = nn.Conv2d(1, 2, 1, bias=False).double()
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([0.7, -0.4]).view(2, 1, 1, 1))
    child = MaskedNetwork(nn.Sequential(conv, nn.Flatten()), {"0": torch.tensor([True, False]).view(2, 1, 1, 1)})
    x, method = 1.5, PruneAndTune()
    x_SBCHW, y_SBK = torch.full((1, 1, 1, 1, 1), x, dtype=torch.float64), torch.tensor([[[1.0, 0.0]]]).double()
    optimizer = torch.optim.SGD(child.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)
    kept_weight, velocity = 0.7, 0.0
    for _ in range(3):
        optimizer.zero_grad()
        method.loss(child, x_SBCHW, y_SBK, 0.0).backward()
        optimizer.step()
        method.after_step(child, 0.0)
        probability = math.exp(kept_weight * x) / (math.exp(kept_weight * x) + 1)
        gradient = (probability - 1) * x + 0.01 * kept_weight
        velocity = 0.9 * velocity + gradient
        kept_weight -= 0.1 * (gradient + 0.9 * velocity)
        assert conv.weight.flatten().tolist() == [pytest.approx(kept_weight, rel=1e-7), 0.0]


def test_the_parent_is_no_member(task_of: Callable[..., Task], recipe: Recipe) -> None:
    task, method = task_of(), PruneAndTune(num_members=2)
    done = dense_parent(task)
    for stage in method.stages(task, recipe)[1:]:
        done[stage.name] = method.start(stage, task, done).eval()
    x_BCHW = torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        logits_MBK = method.predict(done, x_BCHW)
        assert logits_MBK.shape == (2, 5, 4)
        for m in range(2):
            assert torch.equal(logits_MBK[m], done[f"child-{m}"].network(x_BCHW))
            assert not torch.allclose(logits_MBK[m], done["parent"](x_BCHW))
