"""Masks over features that give one member a box and the others the rest: CutMix inside a network, for MixMo."""

from typing import Literal

import torch
from torch import Tensor

BoxSide = Literal["nearest", "even"]


def patch_masks(shares_RM: Tensor, height: int, width: int, box_side: BoxSide = "nearest") -> Tensor:
    """Masks_RMHW that sum to 1 over members: one member, drawn for the batch, has a box of its share, others the rest.

    The box has the image's aspect ratio and a uniform centre, and is clipped at the border (CutMix). For M = 2 this is
    the paper's mask. For M > 2, which the paper leaves open, the others are mixed linearly outside the box.
    """
    num_rows, num_members = shares_RM.shape
    device = shares_RM.device
    boxed = int(torch.randint(num_members, ()))
    side_R = shares_RM[:, boxed].sqrt()
    inside = []
    for size in (height, width):
        half_R = (side_R * size).round() / 2 if box_side == "nearest" else (side_R * size).floor().div(2).floor()
        centre_R = torch.randint(size, (num_rows,)).to(device, non_blocking=True) + 0.5
        offsets = torch.arange(size, device=device) + 0.5 - centre_R[:, None]
        inside.append((-half_R[:, None] <= offsets) & (offsets < half_R[:, None]))
    box_R1HW = (inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(shares_RM.dtype)
    rest_RM = shares_RM.clone()
    rest_RM[:, boxed] = 0
    rest_R1 = rest_RM.sum(1, keepdim=True)
    rest_RM = torch.where(rest_R1 > 0, rest_RM / rest_R1, 1 / (num_members - 1))
    masks_RMHW = (1 - box_R1HW) * rest_RM[:, :, None, None]
    masks_RMHW[:, boxed] = box_R1HW[:, 0]
    return masks_RMHW
