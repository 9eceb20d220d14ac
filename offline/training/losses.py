"""The losses that the towers learn by: small functions of scores that return (M,), a loss per target.

Shapes: M targets, N negatives of each, D dimension. A negative that is the target itself is given
the score minus infinity beforehand and then costs nothing.
"""

import torch
from torch import Tensor
from torch.nn import functional


def sampled_softmax(positive: Tensor, negative: Tensor, log_q: Tensor, log_q_negative: Tensor) -> Tensor:
    """Cross-entropy of the targets (M,) among negatives (M, N), corrected for how those were drawn.

    log_q (M,), log_q_negative (N,) or (M, N): log of the expected number of draws of each item; without it,
    items that are drawn often would be pushed down for being popular.
    Source: Bengio and Senécal 2008; Yi et al. 2019, eq. 3.
    """
    scores = torch.cat([(positive - log_q)[:, None], negative - log_q_negative], dim=1)  # (M, 1+N)
    return functional.cross_entropy(scores, torch.zeros_like(positive, dtype=torch.int64), reduction="none")


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """How often a negative (M, N) beats its target (M,), softly.

    Source: Rendle et al. 2009 (arXiv 1205.2618), without the prior term.
    """
    return functional.softplus(negative - positive[:, None]).mean(dim=1)


def bce(positive: Tensor, negative: Tensor) -> Tensor:
    """Binary cross-entropy of the target (M,) as true and of negatives (M, N) as false, summed."""
    return functional.softplus(-positive) + functional.softplus(negative).sum(dim=1)


def gbce(positive: Tensor, negative: Tensor, sampling_rate: float, calibration: float = 0.75) -> Tensor:
    """Binary cross-entropy that is not overconfident for having seen few negatives.

    sampling_rate is N over the number of items; calibration 0 is plain BCE, 1 fully calibrated.
    Source: Petrov and Macdonald 2023, gSASRec (arXiv 2308.07192), eq. 19.
    """
    beta = sampling_rate * (calibration * (1 - 1 / sampling_rate) + 1 / sampling_rate)
    return beta * functional.softplus(-positive) + functional.softplus(negative).sum(dim=1)


def listwise(scores: Tensor, share: Tensor, temperature: float) -> Tensor:
    """Cross-entropy (M,) of scores (M, C) to what a teacher holds likely, share (M, C), at a temperature.

    Times the temperature squared, so that its gradients are as large at each. A candidate of no share counts
    for nothing; its score may be minus infinity. Source: Hinton et al. 2015 (arXiv 1503.02531), section 2.1.
    """
    told = functional.log_softmax(scores / temperature, dim=1).masked_fill(share == 0, 0.0)  # (M, C)
    return -(temperature**2) * (share * told).sum(dim=1)


def tower_contrast(long: Tensor, short: Tensor) -> Tensor:
    """BPR between the towers: a user's long vector (M, D) is nearer to their own short one than to others'.

    The others are the next rows of the batch; a single row costs nothing. Both are normed, so that only
    their directions count.
    """
    if len(long) < 2:
        return long.sum(dim=-1) * 0
    long, short = functional.normalize(long, dim=-1), functional.normalize(short, dim=-1)  # (M, D)
    own = (long * short).sum(dim=-1)  # (M,)
    others = (long * short.roll(1, dims=0)).sum(dim=-1)  # (M,)
    return bpr(own, others[:, None])
