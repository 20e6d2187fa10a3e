"""Which image each member sees in which row, for methods that give one network several inputs (MIMO, MixMo)."""

import torch
from torch import Tensor


def pair(num_images: int, num_members: int, repetitions: int, input_repetition: float, device: torch.device) -> Tensor:
    """Indices of images, [M, R] with R = num_images · repetitions; every image stands `repetitions` times in each row.

    The list of repeated indices is shuffled, then each member draws its own permutation of it, but a share
    `input_repetition` of the positions keeps the common one: there all members see the same image (Havasi et al. 2021,
    2010.06610, section 4). Drawn on the CPU, so that every device pairs alike.
    """
    indices_R = torch.arange(num_images).repeat(repetitions)
    indices_R = indices_R[torch.randperm(len(indices_R))]
    num_common = round(input_repetition * len(indices_R))
    common, own = indices_R[:num_common], indices_R[num_common:]
    members = [torch.cat([common, own[torch.randperm(len(own))]]) for _ in range(num_members)]
    return torch.stack(members).to(device, non_blocking=True)
