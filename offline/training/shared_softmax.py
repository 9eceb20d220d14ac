"""Softmax of each target against the same items for all: the score matrix is made once and never copied."""

from typing import Any, cast

import torch
from torch import Tensor


def shared_softmax(
    user: Tensor, items: Tensor, begins: Tensor, period: Tensor, positive: Tensor, place: Tensor
) -> Tensor:
    """Cross-entropy (M,) of targets with scores positive (M,) against the same N items for all users (M, D).

    items (N, D); what an item's score begins with is begins[period[m], n], of begins (P, N) and period (M,).
    place (M,): which of the items the target itself is, which then does not count twice, -1 for none.
    """
    return cast(Tensor, _SharedSoftmax.apply(user, items, begins, period, positive, place))


class _SharedSoftmax(torch.autograd.Function):
    """Plain tensor operations would write the scores (M, N) nine times, and keep four of them."""

    @staticmethod
    def forward(
        context: Any,
        user: Tensor,
        items: Tensor,
        begins: Tensor,
        period: Tensor,
        positive: Tensor,
        place: Tensor,
    ) -> Tensor:
        scores = begins[period].addmm_(user, items.T)  # (M, N)
        itself = (place >= 0).nonzero()[:, 0]
        scores[itself, place[itself]] = -torch.inf
        top = torch.maximum(scores.amax(dim=1), positive)  # (M,)
        share = scores.sub_(top[:, None]).exp_()  # (M, N), of the total
        of_target = (positive - top).exp()
        total = share.sum(dim=1) + of_target  # (M,)
        context.save_for_backward(user, items, period, share, of_target / total, total)
        context.periods = len(begins)
        return top + total.log() - positive

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        user, items, period, share, of_target, total = context.saved_tensors
        (gradient,) = gradients
        share = share * (gradient / total)[:, None]  # (M, N)
        of_begins = None
        if context.needs_input_grad[2]:
            of_begins = share.new_zeros(context.periods, share.shape[1]).index_add_(
                0, period, share
            )  # (P, N)
        return share @ items, share.T @ user, of_begins, None, gradient * (of_target - 1), None
