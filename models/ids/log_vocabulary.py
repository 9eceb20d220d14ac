"""The vocabulary of a behaviour log.

Apart from vocabulary.py, which online rankers import: they need nothing that reads logs.
"""

import numpy as np

from models.ids.vocabulary import Vocabulary
from models.log.behaviour_log import BehaviourLog


def vocabulary_of_log(log: BehaviourLog, min_item_count: int = 1, max_items: int | None = None) -> Vocabulary:
    """Return the vocabulary of a log: items with at least `min_item_count` rows, the most frequent first.

    At most `max_items` are kept; ties go to the smaller id, so the order of the rows changes nothing. An
    item's category is that of its last row.
    """
    counts = np.bincount(log.item.codes, minlength=len(log.item.values))
    codes = np.flatnonzero(counts >= max(min_item_count, 1))
    order = np.lexsort((log.item.values[codes].astype(np.str_), -counts[codes]))
    codes = codes[order[:max_items]]
    used = np.flatnonzero(np.bincount(log.category.codes, minlength=len(log.category.values)))
    category_ids = sorted(value for value in log.category.values[used].tolist() if value)
    vocabulary = Vocabulary([], [], category_ids)
    by_time = np.argsort(log.time_ms, kind="stable")
    last_category = np.zeros(len(log.item.values), dtype=np.int64)
    last_category[log.item.codes[by_time]] = log.category.codes[by_time]
    categories = log.category.values[last_category[codes]].tolist()
    return Vocabulary(
        log.item.values[codes].tolist(), vocabulary.category_indices(categories).tolist(), category_ids
    )
