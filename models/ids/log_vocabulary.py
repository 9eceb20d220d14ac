"""The vocabulary of a behaviour log.

Apart from vocabulary.py, which online rankers import: they need nothing that reads logs.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models.arrays import Flags, Ints
from models.compiled import compiled
from models.ids.vocabulary import Vocabulary
from models.log.behaviour_log import BehaviourLog


def vocabulary_of_log(
    log: BehaviourLog, min_item_count: int = 1, max_items: int | None = None, rows: Flags | None = None
) -> Vocabulary:
    """Return the vocabulary of a log: items with at least `min_item_count` rows, the most frequent first.

    rows (R,): which rows of the log count, all where it is None. At most `max_items` are kept; ties go to the
    smaller id, so the order of the rows changes nothing. An item's category is that of its last row.
    """
    items = len(log.item.values)
    counts, last_category = np.zeros(items, np.int64), np.zeros(items, np.int64)
    is_used = np.zeros(len(log.category.values), np.bool_)
    rows = np.ones(len(log), np.bool_) if rows is None else rows
    columns = log.item.codes, log.category.codes, log.time_ms, rows
    _count(*columns, counts, last_category, is_used, np.full(items, np.iinfo(np.int64).min))
    log.release()
    codes = np.flatnonzero(counts >= max(min_item_count, 1))
    codes = codes[_order(counts[codes], log.item.values[codes])[:max_items]]
    category_ids = sorted(value for value in log.category.values[is_used].tolist() if value)
    vocabulary = Vocabulary([], [], category_ids)
    categories = log.category.values[last_category[codes]].tolist()
    return Vocabulary(
        log.item.values[codes].tolist(), vocabulary.category_indices(categories).tolist(), category_ids
    )


def _order(counts: Ints, ids: npt.NDArray[np.object_]) -> Ints:
    """Return the order of ids (I,), those of the highest counts (I,) first, and of equal ones by code points.

    By Arrow: an array of NumPy's strings would take as many bytes for each as the longest id needs.
    """
    table = pa.table({"count": counts, "id": pa.array(ids, pa.large_string())})
    order = pc.sort_indices(table, sort_keys=[("count", "descending"), ("id", "ascending")])
    return np.asarray(order.to_numpy(), np.int64)


@compiled
def _count(
    items: npt.NDArray[np.int32],
    categories: npt.NDArray[np.int32],
    times_ms: Ints,
    are_counted: Flags,
    counts: Ints,
    last_category: Ints,
    is_used: Flags,
    newest_ms: Ints,
) -> None:
    """Count rows (R,) into what is known of items (I,), and of categories: whether there are any."""
    for row in range(len(items)):
        if not are_counted[row]:
            continue
        item, category = items[row], categories[row]
        counts[item] += 1
        is_used[category] = True
        if times_ms[row] >= newest_ms[item]:
            newest_ms[item], last_category[item] = times_ms[row], category
