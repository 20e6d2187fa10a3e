"""MixMo's patch masks: one member's box and the rest (2103.06132), and how the released code rounds its sides."""

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from methods.mixmo import patch_masks


@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 16), (5, 9), (1, 1)])
def test_a_pair_of_patch_masks_is_one_members_box_and_the_rest(height: int, width: int) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        shares_RM = torch.distributions.Dirichlet(torch.full((50, 2), 2.0)).sample()
        masks_RMHW = patch_masks(shares_RM, height, width)
        assert masks_RMHW.shape == (50, 2, height, width)
        assert set(masks_RMHW.unique().tolist()) <= {0.0, 1.0}
        assert torch.equal(masks_RMHW.sum(1), torch.ones(50, height, width))
        boxed = [
            m for m in range(2) if all(is_box(mask_HW, share) for mask_HW, share in column(masks_RMHW, shares_RM, m))
        ]
        assert boxed, "in no member are all rows boxes of its share"


def boxes_as_released(share: float, height: int, width: int) -> set[tuple[int, ...]]:
    """Every box of a share, pixel by pixel, one for each centre: from centre - side // 2 to before centre + side // 2."""
    tall, broad = int(height * math.sqrt(share)) // 2, int(width * math.sqrt(share)) // 2
    return {
        tuple(int(y - tall <= i < y + tall and x - broad <= j < x + broad) for i in range(height) for j in range(width))
        for y in range(height)
        for x in range(width)
    }


@pytest.mark.parametrize("share", [0.03, 0.3, 0.4, 0.85])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (5, 9)])
def test_released_boxes_have_even_sides(share: float, height: int, width: int) -> None:
    allowed = [boxes_as_released(share, height, width), boxes_as_released(1 - share, height, width)]
    shares_RM = torch.tensor([[share, 1 - share]]).expand(100, 2)
    seen: dict[str, list[set[tuple[int, ...]]]] = {"even": [set(), set()], "nearest": [set(), set()]}
    for box_side, drawn in seen.items():
        for seed in range(40):
            torch.manual_seed(seed)
            boxed = int(torch.randint(2, ()))
            torch.manual_seed(seed)
            masks_RMHW = patch_masks(shares_RM, height, width, box_side)
            drawn[boxed] |= {tuple(mask.flatten().int().tolist()) for mask in masks_RMHW[:, boxed]}
    assert seen["even"] == allowed, "all of them and no other"
    assert seen["nearest"] != allowed


def column(masks_RMHW: Tensor, shares_RM: Tensor, m: int) -> list[tuple[Tensor, float]]:
    return list(zip(masks_RMHW[:, m], shares_RM[:, m].tolist(), strict=True))


def is_box(mask_HW: Tensor, share: float) -> bool:
    """A rectangle of sides sqrt(share) times the image's, to the nearest pixel; shorter only where the border clips it."""
    rows_H, columns_W = mask_HW.amax(1), mask_HW.amax(0)
    if not torch.equal(torch.outer(rows_H, columns_W), mask_HW):
        return False
    for covered in (rows_H, columns_W):
        size = len(covered)
        full = math.sqrt(share) * size
        positions = covered.nonzero().flatten().tolist()
        if not positions:
            if full >= 1.5:
                return False
            continue
        if positions != list(range(positions[0], positions[-1] + 1)):
            return False
        clipped = positions[0] == 0 or positions[-1] == size - 1
        if len(positions) > full + 0.5 + 1e-4 or (not clipped and len(positions) < full - 0.5 - 1e-4):
            return False
    return True


def test_either_member_may_have_the_box_and_it_may_lie_anywhere() -> None:
    covered, boxed = torch.zeros(8, 8), Counter[int]()
    for seed in range(200):
        torch.manual_seed(seed)
        masks_RMHW = patch_masks(torch.tensor([[0.05, 0.95]] * 4 + [[0.02, 0.98]] * 4), 8, 8)
        first_holds_box = bool(masks_RMHW[:, 0].mean() < 0.2 and (masks_RMHW[:, 0].sum((1, 2)) <= 4).all())
        boxed[int(not first_holds_box)] += 1
        if first_holds_box:
            covered += masks_RMHW[:, 0].sum(0)
    assert 70 < boxed[0] < 130
    assert (covered > 0).all()


@pytest.mark.parametrize("num_members", [3, 4])
def test_more_than_two_patch_masks_sum_to_one_around_one_box(num_members: int) -> None:
    torch.manual_seed(0)
    shares_RM = torch.distributions.Dirichlet(torch.full((100, num_members), 2.0)).sample()
    masks_RMHW = patch_masks(shares_RM, 8, 8)
    torch.testing.assert_close(masks_RMHW.sum(1), torch.ones(100, 8, 8))
    binary = [m for m in range(num_members) if set(masks_RMHW[:, m].unique().tolist()) <= {0.0, 1.0}]
    assert len(binary) == 1
    others = [m for m in range(num_members) if m not in binary]
    for r in range(100):
        outside = masks_RMHW[r, binary[0]] == 0
        for m in others:
            share = shares_RM[r, m] / sum(shares_RM[r, k] for k in others)
            torch.testing.assert_close(masks_RMHW[r, m][outside], share.expand(int(outside.sum())))


def test_patch_masks_sum_to_one_however_small_a_share_is() -> None:
    # Dirichlet draws of a small alpha reach float32's smallest numbers.
    for seed in range(10):
        torch.manual_seed(seed)
        shares_RM = torch.distributions.Dirichlet(torch.full((100, 2), 0.02)).sample()
        torch.testing.assert_close(patch_masks(shares_RM, 8, 8).sum(1), torch.ones(100, 8, 8))
