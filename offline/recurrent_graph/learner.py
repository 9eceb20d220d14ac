"""A recurrent encoder beside a graph that learns from a log: what came next, by what was before it."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from models.arrays import Flags, Floats, Ints
from models.errors import DataError
from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN, UNKNOWN
from models.log.behaviour_log import BehaviourLog
from models.recurrent_graph.events import nodes_of, read_spans
from models.recurrent_graph.recurrent_graph_model import RecurrentGraphModel
from models.windows.log_histories import EVERYTHING, histories_of_log
from offline.recurrent_graph.item_graph import ItemGraph, Neighbourhood
from offline.recurrent_graph.network import Asked, Messages, Read, RecurrentGraph
from offline.recurrent_graph.settings import RecurrentGraphConfig
from offline.recurrent_graph.stretches import Stretches, cut_stretches, known_targets, periods_of
from offline.recurrent_graph.transitions import transitions_of
from offline.recurrent_graph.written import written_model
from offline.training.losses import sampled_softmax
from offline.training.negatives import negative_sampler
from offline.training.parallel import one_process


@dataclass(frozen=True, slots=True)
class Batch:
    """Stretches as tensors, the nodes at hand, and the places of targets (M,) and negatives (J,) among them.

    log_q (M,), log_q_negative (J,): log of how often each is drawn; negatives are all items where it is None.
    target_item, negative_item: the same by their places in the vocabulary.
    """

    messages: Messages
    read: Read
    asked: Asked
    target: Tensor
    negative: Tensor
    target_item: Tensor
    negative_item: Tensor
    log_q: tuple[Tensor, Tensor] | None


class RecurrentGraphLearner:
    """A network that learns; an `offline.encoders.run.Learner`.

    A period of the log learns with the graph of the rows before it: no edge is made of a target itself, or
    of anything later.
    """

    def __init__(self, log: BehaviourLog, rows: Flags, config: RecurrentGraphConfig) -> None:
        """rows (R,): which of the log's are learned. Raises DataError where none of them can be."""
        train, form = config.train, config.model
        self._train = train
        known = log.select(rows)
        self.vocabulary: Vocabulary = vocabulary_of_log(known, train.min_item_count, train.max_items)
        self._items = len(self.vocabulary.item_ids)
        if not self._items:
            raise DataError(f"{log.path}: no item has min_item_count, {train.min_item_count}, rows")
        _, self.histories = histories_of_log(known, self.vocabulary, EVERYTHING)
        self.transitions = transitions_of(self.histories, train.reach)
        self.begins_ms = periods_of(self.histories.time_ms, train.periods)
        self.stretches = cut_stretches(
            self.histories, self.begins_ms, form.read_events, config.window.horizon_ms
        )
        torch.manual_seed(train.seed)
        self.device = one_process(train.device).device
        self.network = RecurrentGraph(*nodes_known_by(self.vocabulary), self._items, form, train.dropout)
        self.network.to(self.device)
        self._sampler = negative_sampler(
            self.histories.item, self.histories.item >= FIRST_KNOWN, self._items, train.negatives,
            train.uniform_share,
        )  # fmt: skip
        self._random = np.random.default_rng(train.seed)
        self._optimiser = torch.optim.Adam(
            self.network.parameters(), train.lr, weight_decay=train.weight_decay
        )

    def graph(self, before_ms: int | None = None) -> ItemGraph:
        """Return the graph of the rows before a time, of all without one."""
        counts = self.transitions.counts(self._items, before_ms)
        return ItemGraph.of(counts, len(self.network.node_item), self._train.neighbours)

    def epoch(self) -> float:
        """Learn every row once, the periods in their order; return the mean loss."""
        self.network.train()
        total = count = 0.0
        with tqdm(total=len(self.stretches), desc="learning", leave=False, disable=None) as bar:
            for graph, some in self._batches():
                bar.update(len(some))
                if (batch := self.batch(graph, some)) is None:
                    continue  # no target whose item is known
                loss = self.loss(batch).mean()
                self._optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                self._optimiser.step()
                total, count = total + float(loss.detach()) * len(batch.target), count + len(batch.target)
        return total / max(count, 1)

    def _batches(self) -> Iterator[tuple[ItemGraph, Stretches]]:
        for number, begin_ms in enumerate(self.begins_ms.tolist()):
            stretches = self.stretches.of_period(number)
            order = self._random.permutation(len(stretches))
            graph = self.graph(begin_ms)
            for begin in range(0, len(order), self._train.batch_size):
                yield graph, stretches.take(order[begin : begin + self._train.batch_size])

    def batch(self, graph: ItemGraph, stretches: Stretches) -> Batch | None:
        """Return stretches of one period as a batch; None where no target's item is known."""
        stretch, event = known_targets(self.histories, stretches)
        if not len(event):
            return None
        node, behaviour, pause = self._read(stretches)
        target = self.histories.item[event].astype(np.int64) - FIRST_KNOWN
        negative, log_q = self._negatives(target)
        wanted = np.unique(np.concatenate([node.ravel(), target, negative]))
        around = graph.around(wanted)
        place = around.wanted[np.searchsorted(wanted, node)]
        asked = self._asked(stretch, event - stretches.first[stretch], node.shape[1])
        return Batch(
            self.messages(around),
            Read(*map(self._tensor, (place, behaviour, pause))),
            asked,
            self._tensor(around.wanted[np.searchsorted(wanted, target)]),
            self._tensor(around.wanted[np.searchsorted(wanted, negative)]),
            self._tensor(target),
            self._tensor(negative),
            log_q,
        )

    def loss(self, batch: Batch) -> Tensor:
        """Return the cross-entropy (M,) of each target among the negatives, or all items."""
        entering = self.network.entering(batch.messages.nodes)
        nodes = self.network.after_messages(entering, batch.messages)
        users = self.network.users(entering, nodes, batch.read, batch.asked)  # (M, D)
        scores = users @ nodes[batch.negative].T + self.network.item_bias[batch.negative_item]  # (M, J)
        if batch.log_q is None:
            return functional.cross_entropy(scores, batch.target_item, reduction="none")
        positive = (users * nodes[batch.target]).sum(dim=1) + self.network.item_bias[batch.target_item]
        is_target = batch.negative_item == batch.target_item[:, None]
        return sampled_softmax(positive, scores.masked_fill(is_target, -torch.inf), *batch.log_q)

    def model(self) -> RecurrentGraphModel:
        """Return the model as it is now, its nodes made by the graph of all rows."""
        graph = self.graph()
        return written_model(self.network, graph, self.messages)

    def messages(self, around: Neighbourhood) -> Messages:
        """Return a neighbourhood as tensors."""
        edges = self._tensor(np.stack([around.source, around.target]))
        return Messages(self._tensor(around.nodes), edges, self._tensor(around.weight))

    def _read(self, stretches: Stretches) -> tuple[Ints, Ints, Ints]:
        """Return node, behaviour and pause (B, T) of what stretches read, a share of the items unknown."""
        events = read_spans(self.histories, stretches.first, stretches.last - 1, self._items)
        is_hidden = self._random.random(len(events.node)) < self._train.unknown_share
        categories = self.network.node_category.cpu().numpy()[events.node]
        node = np.where(is_hidden, self._items + categories, events.node)
        width = max(int(events.counts.max()), 1)
        is_real = np.arange(width) < events.counts[:, None]

        def padded(values: Ints) -> Ints:
            found = np.zeros((len(stretches), width), np.int64)
            found[is_real] = values
            return found

        return padded(node), padded(events.behaviour), padded(events.pause)

    def _asked(self, stretch: Ints, count: Ints, width: int) -> Asked:
        target = np.repeat(np.arange(len(stretch)), count)
        event = np.arange(count.sum()) + np.repeat(stretch * width - (np.cumsum(count) - count), count)
        return Asked(*map(self._tensor, (stretch, count, np.stack([event, target]))))

    def _negatives(self, target: Ints) -> tuple[Ints, tuple[Tensor, Tensor] | None]:
        if self._items <= self._train.full_softmax_items:
            return np.arange(self._items), None
        drawn = self._sampler.draw(self._random)
        log_q = tuple(
            self._sampler.log_expected(items).to(self.device)
            for items in (torch.from_numpy(target + FIRST_KNOWN), drawn)
        )
        return drawn.numpy() - FIRST_KNOWN, log_q  # type: ignore[return-value]

    def _tensor(self, values: Ints | Floats) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)


def nodes_known_by(vocabulary: Vocabulary) -> tuple[Ints, Ints]:
    """Return item and category indices (N,) of the nodes, in the order of `nodes_of`."""
    items = np.arange(len(vocabulary.item_ids)) + FIRST_KNOWN
    categories = np.arange(vocabulary.category_count)
    item = np.concatenate([items, np.full(len(categories), UNKNOWN)])
    category = np.concatenate([vocabulary.item_categories, categories]).astype(np.int64)
    assert (nodes_of(item, category, len(items)) == np.arange(len(item))).all()
    return item, category
