"""Which image each member sees in which row, for methods that give one network several inputs (MIMO, MixMo)."""

import torch
from torch import Tensor


def pair(
    num_images: int,
    num_members: int,
    repetitions: int,
    input_repetition: float,
    device: torch.device,
    within: int | None = None,
) -> Tensor:
    """Indices of images, [M, R] with R = num_images · repetitions; every image stands `repetitions` times in each row.

    The list of repeated indices is shuffled, then each member draws its own permutation of it, but a share
    `input_repetition` of the positions keeps the common one: there all members see the same image (Havasi et al. 2021,
    2010.06610, section 4). With `within` this is done for each so many images in turn, so that rows hold images of one
    block only. Drawn on the CPU, so that every device pairs alike.
    """
    blocks = torch.arange(num_images).split(within or num_images)
    paired = [_pair_all(images, num_members, repetitions, input_repetition) for images in blocks]
    return torch.cat(paired, dim=1).to(device, non_blocking=True)


def _pair_all(images: Tensor, num_members: int, repetitions: int, input_repetition: float) -> Tensor:
    indices_R = images.repeat(repetitions)
    indices_R = indices_R[torch.randperm(len(indices_R))]
    num_common = round(input_repetition * len(indices_R))
    common, own = indices_R[:num_common], indices_R[num_common:]
    return torch.stack([torch.cat([common, own[torch.randperm(len(own))]]) for _ in range(num_members)])
