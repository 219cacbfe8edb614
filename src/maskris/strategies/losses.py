"""Cross entropy with masks, and with soft predictions."""

import torch
import torch.nn.functional as F
from torch import Tensor

CLASS_WEIGHTS = (0.9, 1.1)
"""Weights of background and referent in the official implementation."""


def hard_cross_entropy(logits: Tensor, masks: Tensor, weights: tuple[float, float] = CLASS_WEIGHTS) -> Tensor:
    """Weighted mean over pixels of the cross entropy with masks.

    Args:
        logits: ``[N, C, H, W]``; two channels for softmax, one for sigmoid.
        masks: ``[N, H, W]`` bool, or float in [0, 1] where outlines are soft.
        weights: Of background and referent.

    Returns:
        Scalar, ``sum_p w(y_p) * -log q_p(y_p) / sum_p w(y_p)``; the weight of a soft pixel lies between the two.
    """
    # In fp32 even under autocast: millions of pixels are summed.
    logits = logits.float()
    if logits.shape[1] == 2 and not masks.is_floating_point():
        return F.cross_entropy(logits, masks.long(), weight=logits.new_tensor(weights))
    share = masks.to(logits.dtype)
    if logits.shape[1] == 2:
        return soft_cross_entropy(logits, torch.stack([1 - share, share], dim=1), weights, normalize=True)
    # (1 - y) w0 * -log(1 - q) + y w1 * -log q, whose weights add up to the same sum as the masks' own.
    loss = weights[0] * (1 - share) * F.softplus(logits[:, 0]) + weights[1] * share * F.softplus(-logits[:, 0])
    return loss.sum() / (weights[0] * (1 - share) + weights[1] * share).sum()


def soft_cross_entropy(
    logits: Tensor, target: Tensor, weights: tuple[float, float] = CLASS_WEIGHTS, normalize: bool = False
) -> Tensor:
    """Cross entropy with soft predictions (MaskRIS equation 3).

    Args:
        logits: ``[N, C, h, w]`` of the student.
        target: ``[N, C, h, w]`` probabilities of the teacher.
        weights: Of background and referent.
        normalize: Divide by the sum of weights, as the hard loss does, instead of by the number of pixels, as the
            official code does.

    Returns:
        Scalar, ``sum_p sum_c w_c t_pc * -log q_pc`` over the number of pixels (or the sum of the weights).
    """
    logits, target = logits.float(), target.float()
    if logits.shape[1] == 1:  # as two channels whose difference is the logit
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        target = torch.cat([1 - target, target], dim=1)
    weighted = target * target.new_tensor(weights).view(1, 2, 1, 1)
    loss = -(weighted * logits.log_softmax(1)).sum(1)  # [N, h, w]
    return loss.sum() / weighted.sum() if normalize else loss.mean()


def soft_prediction(logits: Tensor) -> Tensor:
    """Probabilities of logits ``[N, C, h, w]``, in the same shape and without gradient."""
    logits = logits.detach().float()
    return logits.softmax(1) if logits.shape[1] > 1 else logits.sigmoid()
