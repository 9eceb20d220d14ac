"""Towers that know more items: a model's weights carried over to a larger vocabulary."""

import torch
from torch import Tensor

from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN, UNKNOWN
from models.towers.dual_towers import DualTowers
from models.towers.histories import FeatureSettings


def grown(
    towers: DualTowers, before: Vocabulary, vocabulary: Vocabulary, features: FeatureSettings
) -> DualTowers:
    """Return towers of a vocabulary that make the same vectors as those of the one before.

    What only the new vocabulary knows begins as what is unknown does, an item as its category; what only the
    one before knew is left out. The popularity that scores begin with is that of the least popular for a new
    item, until it is set anew.
    """
    made = DualTowers(vocabulary, features, towers.settings).to(towers.everyone.device)
    of_items = _rows(before.item_indices(vocabulary.item_ids))
    of_categories = _rows(before.category_indices(vocabulary.category_ids))
    weights = towers.state_dict()
    for name, rows in {
        "items.item.weight": of_items,
        "items.item_difference.weight": of_items,
        "items.popularity": of_items,
        "items.category.weight": of_categories,
        "items.category_difference.weight": of_categories,
    }.items():
        weights[name] = weights[name][rows.to(weights[name].device)]
    weights["items.popularity"][_is_new(of_items)] = towers.items.popularity.min()
    made.rotation = weights.get("rotation")
    made.load_state_dict(weights)
    return made


def _rows(known: Tensor | object) -> Tensor:
    """Return the row of the tables before (R,) of each index, of padding and unknown too."""
    return torch.cat([torch.arange(FIRST_KNOWN), torch.as_tensor(known)])


def _is_new(rows: Tensor) -> Tensor:
    """Return whether these rows (R,) are of what was unknown before."""
    is_new = rows == UNKNOWN
    is_new[:FIRST_KNOWN] = False
    return is_new


def union(before: Vocabulary, log: Vocabulary, max_items: int) -> Vocabulary:
    """Return the vocabulary of what either knows: first what the log has, the most frequent first.

    At most `max_items`, so that what is in neither's front is forgotten; an item has the log's category.
    """
    known = set(log.item_ids)
    item_ids = [*log.item_ids, *(item_id for item_id in before.item_ids if item_id not in known)][:max_items]
    category_ids = sorted({*log.category_ids, *before.category_ids})
    made = Vocabulary([], [], category_ids)
    categories = {**_categories(before), **_categories(log)}
    indices = made.category_indices([categories[item_id] for item_id in item_ids])
    return Vocabulary(item_ids, indices.tolist(), category_ids)


def _categories(vocabulary: Vocabulary) -> dict[str, str]:
    """Return the category id of each item, empty where it has none."""
    names = [""] * FIRST_KNOWN + vocabulary.category_ids
    indices = vocabulary.item_categories.tolist()
    return {item_id: names[index] for item_id, index in zip(vocabulary.item_ids, indices, strict=True)}
