"""The softmax in place is the one of plain tensor operations, its gradients too."""

import torch
from torch.nn.functional import cross_entropy

from offline.training.shared_softmax import shared_softmax

USERS, ITEMS, DIMENSION, PERIODS = 7, 5, 3, 4
#: Which of the items each user's target is; of the second and last none.
PLACE = torch.tensor([0, -1, 4, 2, 2, 1, -1])
PERIOD = torch.tensor([3, 0, 0, 1, 3, 3, 1])


def made() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return users' and items' vectors, what scores begin with, and the targets' scores."""
    torch.manual_seed(0)
    shapes = (USERS, DIMENSION), (ITEMS, DIMENSION), (PERIODS, ITEMS), (USERS,)
    users, items, begins, positive = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes
    )
    return users, items, begins, positive


def test_loss_is_cross_entropy_of_the_target_before_all_items_but_itself() -> None:
    users, items, begins, positive = made()
    found = shared_softmax(users, items, begins, PERIOD, positive, PLACE)
    for user, (place, period) in enumerate(zip(PLACE.tolist(), PERIOD.tolist(), strict=True)):
        others = [item for item in range(ITEMS) if item != place]
        scores = [items[item] @ users[user] + begins[period, item] for item in others]
        expected = cross_entropy(torch.stack([positive[user], *scores]), torch.tensor(0))
        torch.testing.assert_close(found[user], expected)


def test_gradients_are_those_of_finite_differences() -> None:
    users, items, begins, positive = made()
    assert torch.autograd.gradcheck(shared_softmax, (users, items, begins, PERIOD, positive, PLACE))


def test_scores_beyond_the_range_of_exponentials_are_no_nan() -> None:
    user, item = torch.tensor([[1e3]], requires_grad=True), torch.tensor([[1e3], [-1e3]])
    nothing = torch.zeros(1, 2), torch.tensor([0])
    found = shared_softmax(user, item, *nothing, torch.tensor([0.0]), torch.tensor([-1]))
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert found.item() == 1e6
    assert user.grad is not None and user.grad.item() == 1e3
