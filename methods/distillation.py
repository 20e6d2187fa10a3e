"""The loss of members that learn from their own ensemble (ensemble knowledge distillation of Lee & Kim 2024, 2408.02301)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmark.method import cross_entropy


def joint_loss(logits_MBK: Tensor, targets_BK: Tensor, distillation: bool, temperature: float) -> Tensor:
    """Sum over members of cross-entropy, and where asked for of distillation; in the precision of the targets."""
    logits_MBK = logits_MBK.to(targets_BK.dtype)
    loss = torch.stack([cross_entropy(logits_BK, targets_BK) for logits_BK in logits_MBK]).sum()
    return loss + distillation_loss(logits_MBK, temperature) if distillation else loss


def distillation_loss(logits_MBK: Tensor, temperature: float) -> Tensor:
    """T² sum_m KL(softmax(z_E / T) || softmax(z_m / T)), mean over images; z_E is the mean of logits, a constant."""
    log_teacher_BK = F.log_softmax(logits_MBK.detach().mean(0) / temperature, dim=-1)
    log_students_MBK = F.log_softmax(logits_MBK / temperature, dim=-1)
    divergence_MB = (log_teacher_BK.exp() * (log_teacher_BK - log_students_MBK)).sum(-1)
    return temperature**2 * divergence_MB.mean(1).sum()
