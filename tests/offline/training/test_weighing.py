"""What was learned of items counts less where held-out rows say so, and all of it where it helps."""

import numpy as np
import torch

from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN
from models.towers.dual_towers import DualTowers
from models.towers.histories import FeatureSettings
from models.towers.settings import ModelSettings
from offline.ranking.metrics import gains
from offline.training.data import Stretches
from offline.training.held_out import target_ranks
from offline.training.weighing import ItemWeights, find_weights, weigh
from tests.offline.made_stretches import stretches_of

ITEMS, USERS, EVENTS = 80, 40, 6
VOCABULARY = Vocabulary([f"i{n}" for n in range(ITEMS)], [2] * ITEMS, ["a"])


def towers() -> DualTowers:
    """Return towers that score highest what a user just had."""
    torch.manual_seed(0)
    made = DualTowers(VOCABULARY, FeatureSettings(), ModelSettings(dimension=64)).eval()
    with torch.no_grad():
        made.items.category.weight.zero_()
    return made


def users_who_return() -> Stretches:
    """Return the stretches of users who look at one item, their own, again and again."""
    item = np.repeat(np.arange(USERS) + FIRST_KNOWN, EVENTS)
    return stretches_of(item, EVENTS)


def test_what_spoils_the_order_weighs_less() -> None:
    spoiled, asked = towers(), users_who_return()
    perfect = gains(target_ranks(spoiled, asked))
    with torch.no_grad():
        spoiled.items.item_difference.weight.normal_(std=0.3)
        spoiled.items.popularity.normal_(std=3.0)
    before = {name: tensor.clone() for name, tensor in spoiled.state_dict().items()}
    weights, ranks = find_weights(spoiled, asked)
    assert weights.difference < 0.6
    assert weights.popularity < 0.6
    assert gains(target_ranks(spoiled, asked)).mean() < gains(ranks).mean() <= perfect.mean()
    for name, tensor in spoiled.state_dict().items():
        torch.testing.assert_close(tensor, before[name])
    weigh(spoiled, weights)
    np.testing.assert_array_equal(target_ranks(spoiled, asked), ranks)
    weigh(spoiled, ItemWeights().over(weights))
    torch.testing.assert_close(spoiled.items.item_difference.weight, before["items.item_difference.weight"])


def test_what_the_order_comes_from_keeps_its_weight() -> None:
    learned, asked = towers(), users_who_return()
    with torch.no_grad():
        learned.items.share.zero_()
        learned.items.item_difference.weight.copy_(learned.items.item.weight)
        learned.items.popularity[FIRST_KNOWN : FIRST_KNOWN + USERS] = 0.5  # of all that is ever looked at
    assert find_weights(learned, asked)[0] == ItemWeights()
