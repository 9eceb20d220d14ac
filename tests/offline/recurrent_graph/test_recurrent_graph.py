"""A recurrent encoder beside a graph: as loops have it, from the past, learned by ten seeds, published."""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from models.ages import age_buckets
from models.arrays import Flags, Ints
from models.artifact.artifact import load
from models.ids.vocabulary_file import FIRST_KNOWN
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.windows.histories import Histories
from models.windows.log_histories import EVERYTHING, histories_of_log
from offline import train
from offline.recurrent_graph.geometric import convolutions
from offline.recurrent_graph.learner import Batch, RecurrentGraphLearner
from offline.recurrent_graph.network import Read
from offline.recurrent_graph.settings import RecurrentGraphConfig, read_recurrent_graph_config
from offline.recurrent_graph.stretches import known_targets

Row = list[float]
#: The cell and the graph of each model that is tried; both cells, both graphs.
KINDS = [("gru", "gcn"), ("lstm", "gat")]
ITEMS = 12


def _config(recurrent: str, graph: str, **given: object) -> RecurrentGraphConfig:
    tiny = {
        "graph": graph,
        "dimension": 8,
        "read_events": 6,
        "batch_size": 16,
        "dropout": 0.0,
        "unknown_share": 0.0,
        "periods": 3,
        "neighbours": 3,
        "lr": 0.02,
    }
    return read_recurrent_graph_config(recurrent, None, {**tiny, **given})


@pytest.fixture(scope="module")
def csv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a log of users who walk around a ring of items, from anywhere, some with a rare item."""
    random = np.random.default_rng(0)
    lines = ["user_id,item_id,behavior_type,user_geohash,item_category,time"]
    for user in range(24):
        place, minute = int(random.integers(ITEMS)), int(random.integers(600))
        for step in range(int(random.integers(3, 20))):
            item = f"rare{user}" if step == 1 and user % 3 == 0 else f"i{(place + step) % ITEMS}"
            minute += int(random.choice([0, 1, 60, 300]))
            time = f"2024-03-{1 + minute // 1440:02} {minute // 60 % 24:02}:{minute % 60:02}"
            lines.append(f"u{user},{item},{1 + step % 4},,c{len(item) + (place + step) % 3},{time}")
    path = tmp_path_factory.mktemp("ring") / "log.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def log(csv: Path) -> BehaviourLog:
    return read_behaviour_log(csv)


def _learner(log: BehaviourLog, config: RecurrentGraphConfig) -> RecurrentGraphLearner:
    return RecurrentGraphLearner(log, np.ones(len(log), np.bool_), config)


def _times(matrix: list[Row], vector: Sequence[float]) -> Row:
    return [sum(w * x for w, x in zip(row, vector, strict=True)) for row in matrix]


def _plus(*vectors: Sequence[float]) -> Row:
    return [sum(each) for each in zip(*vectors, strict=True)]


def _sigma(value: float) -> float:
    return 1 / (1 + math.exp(-value))


class Loops:
    """The model by the equations of its sources, number by number."""

    def __init__(self, learner: RecurrentGraphLearner, recurrent: str, graph: str) -> None:
        self.of = {name: value.tolist() for name, value in learner.network.state_dict().items()}
        self.recurrent, self.graph, self.learner = recurrent, graph, learner
        self.items = len(learner.vocabulary.item_ids)
        self.neighbours = self._neighbours(most=3, reach=3)
        nodes = range(self.items + learner.vocabulary.category_count)
        self.entering = [
            _plus(self.of["item.weight"][i], self.of["category.weight"][c])
            for i, c in zip(self.of["node_item"], self.of["node_category"], strict=True)
        ]
        self.node = [_plus(self.entering[n], self._between_items(n)) for n in nodes]

    def _neighbours(self, most: int, reach: int) -> dict[int, dict[int, float]]:
        """Return of each node how often it stands with its neighbours, itself once."""
        histories, items = self.learner.histories, self.items
        found: dict[int, dict[int, float]] = {n: {} for n in range(len(self.of["node_item"]))}
        for user in range(len(histories)):
            walk = (histories.item[histories.starts[user] : histories.starts[user + 1]] - 2).tolist()
            for at, one in enumerate(walk):
                for other in walk[at + 1 : at + 1 + reach]:
                    if one != other and 0 <= one < items and 0 <= other < items:
                        found[one][other] = found[one].get(other, 0) + 1
                        found[other][one] = found[other].get(one, 0) + 1
        strongest = {
            n: sorted(of.items(), key=lambda each: (-each[1], each[0]))[:most] for n, of in found.items()
        }
        return {n: {n: 1.0, **dict(of)} for n, of in strongest.items()}

    def _between_items(self, n: int) -> Row:
        if self.graph == "gat":
            return self._gat(
                "between_items", self.entering[n], [self.entering[m] for m in self.neighbours[n]]
            )
        degree = {m: sum(of.values()) for m, of in self.neighbours.items()}
        sent = [
            [weight / math.sqrt(degree[n] * degree[m]) * x for x in self.entering[m]]
            for m, weight in self.neighbours[n].items()
        ]
        return _plus(_times(self.of["between_items.lin.weight"], _plus(*sent)), self.of["between_items.bias"])

    def _gat(self, name: str, own: Row, sending: list[Row]) -> Row:
        """Return what a node takes from those that send to it, itself among them."""
        weight, found = self.of[f"{name}.lin.weight"], list[float]()
        for head, (source, target) in enumerate(
            zip(self.of[f"{name}.att_src"][0], self.of[f"{name}.att_dst"][0], strict=True)
        ):
            rows = slice(head * len(source), (head + 1) * len(source))
            projected = [_times(weight, row)[rows] for row in sending]
            to_own = sum(a * x for a, x in zip(target, _times(weight, own)[rows], strict=True))
            looks = [sum(a * x for a, x in zip(source, row, strict=True)) + to_own for row in projected]
            looks = [math.exp(look if look > 0 else 0.2 * look) for look in looks]
            shares = [look / sum(looks) for look in looks]
            found += _plus(*([s * x for x in row] for s, row in zip(shares, projected, strict=True)))
        return _plus(found, self.of[f"{name}.bias"])

    def _cell(self, events: list[Row]) -> Row:
        wide = 8
        state, memory = [0.0] * wide, [0.0] * wide
        for event in events:
            of_event = _plus(_times(self.of["cell.weight_ih_l0"], event), self.of["cell.bias_ih_l0"])
            of_state = _plus(_times(self.of["cell.weight_hh_l0"], state), self.of["cell.bias_hh_l0"])
            both = _plus(of_event, of_state)
            for at in range(wide):
                if self.recurrent == "gru":
                    reset, update = _sigma(both[at]), _sigma(both[wide + at])
                    new = math.tanh(of_event[2 * wide + at] + reset * of_state[2 * wide + at])
                    state[at] = (1 - update) * new + update * state[at]
                else:
                    enter, forget, out = (_sigma(both[gate * wide + at]) for gate in (0, 1, 3))
                    memory[at] = forget * memory[at] + enter * math.tanh(both[2 * wide + at])
                    state[at] = out * math.tanh(memory[at])
        return state

    def user(self, item: list[int], category: list[int], behaviour: list[int], time_ms: list[int]) -> Row:
        """Return the vector of a user of these events, given by vocabulary indices."""
        nodes = [i - 2 if i >= 2 else self.items + c for i, c in zip(item, category, strict=True)][-6:]
        times, kinds = time_ms[-6:], behaviour[-6:]
        pauses = [0] + [int(age_buckets(np.array([b - a]))[0]) for a, b in pairwise(times)]
        events = [
            _plus(self.entering[n], self.of["behaviour.weight"][k], self.of["pause.weight"][p])
            for n, k, p in zip(nodes, kinds, pauses, strict=False)
        ]
        x, z = self._cell(events), self.node[nodes[-1]] if nodes else self.of["start"]
        if self.graph == "gat":
            y = self._gat("to_user", z, [*(self.node[n] for n in nodes), z])
        else:
            degree = len(nodes) + 1
            sent = [[value / math.sqrt(degree) for value in self.node[n]] for n in nodes]
            own = [value / degree for value in z]
            y = _plus(_times(self.of["to_user.lin.weight"], _plus(own, *sent)), self.of["to_user.bias"])
        y = [math.tanh(value) for value in y]
        gate = map(_sigma, _plus(_times(self.of["gate.weight"], [*x, *y, *z]), self.of["gate.bias"]))
        return [g * a + (1 - g) * b for g, a, b in zip(gate, x, y, strict=True)]


@pytest.mark.parametrize(("recurrent", "graph"), KINDS)
def test_vectors_are_those_of_loops(log: BehaviourLog, recurrent: str, graph: str) -> None:
    learner = _learner(log, _config(recurrent, graph, min_item_count=4))
    learner.epoch()
    model, loops = learner.model(), Loops(learner, recurrent, graph)
    expected = [[*loops.node[n], loops.of["item_bias"][n]] for n in range(loops.items)]
    np.testing.assert_allclose(model.item_vectors(), expected, atol=1e-5)
    _, histories = histories_of_log(log, learner.vocabulary, EVERYTHING)
    lengths = [0, 1, 2, 6, 3, 8]  # none, one, two, as many as are read, and more
    users = np.flatnonzero(np.diff(histories.starts) >= 8)[: len(lengths)]
    firsts = histories.starts[users]
    rows = np.concatenate([np.arange(a, a + n) for a, n in zip(firsts, lengths, strict=True)])
    some = histories.select(rows, np.concatenate(([0], np.cumsum(lengths))))
    assert (some.item == 1).any()  # an item too rare to be known
    found = model.on_cpu().encode(some).user
    for user in range(len(some)):
        own = slice(some.starts[user], some.starts[user + 1])
        columns = (some.item[own], some.category[own], some.behaviour[own], some.time_ms[own])
        expected_user = [*loops.user(*(column.tolist() for column in columns)), 1.0]
        np.testing.assert_allclose(found[user], expected_user, atol=1e-5)


def _all_targets(learner: RecurrentGraphLearner) -> Batch:
    batch = learner.batch(learner.graph(), learner.stretches)
    assert batch is not None
    return batch


def _windows(learner: RecurrentGraphLearner) -> tuple[Histories, Ints]:
    """Return what each target's window holds, and the targets' items (M,)."""
    stretch, event = known_targets(learner.histories, learner.stretches)
    firsts = learner.stretches.first[stretch]
    rows = np.concatenate([np.arange(a, b) for a, b in zip(firsts, event, strict=True)])
    starts = np.concatenate(([0], np.cumsum(event - firsts)))
    return learner.histories.select(rows, starts), learner.histories.item[event]


def _users(learner: RecurrentGraphLearner, batch: Batch) -> torch.Tensor:
    entering = learner.network.entering(batch.messages.nodes)
    nodes = learner.network.after_messages(entering, batch.messages)
    return learner.network.users(entering, nodes, batch.read, batch.asked)


@pytest.mark.parametrize(("recurrent", "graph"), KINDS)
def test_a_target_learns_from_the_very_vector_that_a_window_before_it_gets(
    log: BehaviourLog, recurrent: str, graph: str
) -> None:
    learner = _learner(log, _config(recurrent, graph))
    learner.epoch()
    encoder = learner.model().on_cpu()
    with torch.inference_mode():
        learnt = _users(learner, _all_targets(learner)).numpy()
    windows, target = _windows(learner)
    assert np.diff(windows.starts).max() == 6 and len(target) == len(log)
    np.testing.assert_allclose(encoder.encode(windows).user[:, :-1], learnt, atol=1e-5)


@pytest.mark.parametrize(("recurrent", "graph"), KINDS)
@pytest.mark.parametrize("most", [5_000, 1])
def test_padding_changes_nothing_the_loss_included_and_every_parameter_learns(
    log: BehaviourLog, recurrent: str, graph: str, most: int
) -> None:
    found = []
    for width in (0, 5):
        config = _config(recurrent, graph, full_softmax_items=most, negatives=64, unknown_share=0.1)
        learner = _learner(log, config)
        batch = _all_targets(learner)
        places, wide = batch.read.node.shape
        padded = Read(*(torch.nn.functional.pad(column, (0, width)) for column in batch.read))
        row = batch.asked.edges[0] // wide
        edges = torch.stack([batch.asked.edges[0] + row * width, batch.asked.edges[1]])
        loss = learner.loss(replace(batch, read=padded, asked=batch.asked._replace(edges=edges))).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = dict(learner.network.named_parameters())
        without = [name for name, value in parameters.items() if value.grad is None or not value.grad.any()]
        assert not without and places == len(learner.stretches)
        found.append([loss.detach(), *(value.grad for value in parameters.values())])
    torch.testing.assert_close(*found, atol=1e-6, rtol=1e-4)


def test_a_period_learns_with_edges_of_the_past_alone(log: BehaviourLog) -> None:
    learner = _learner(log, _config("gru", "gcn", neighbours=100))
    pairs = learner.transitions
    assert len(learner.begins_ms) == 3
    assert learner.graph(int(learner.begins_ms[0])).starts[-1] == len(learner.network.node_item)  # own loops
    stretch, event = known_targets(learner.histories, learner.stretches)
    for number, begin_ms in enumerate(learner.begins_ms.tolist()):
        targets_ms = learner.histories.time_ms[event[learner.stretches.period[stretch] == number]]
        assert targets_ms.min() >= begin_ms
        graph = learner.graph(begin_ms)
        target = np.repeat(np.arange(len(graph.starts) - 1), np.diff(graph.starts))
        earlier = pairs.time_ms < begin_ms
        one, other = pairs.earlier[earlier].tolist(), pairs.later[earlier].tolist()
        of_past = {*zip(one, other, strict=True), *zip(other, one, strict=True)}
        edges = set(zip(graph.source.tolist(), target.tolist(), strict=True))
        assert {edge for edge in edges if edge[0] != edge[1]} == of_past


def _shuffled(log: BehaviourLog, rows: Flags) -> BehaviourLog:
    """Return the log with items and their categories changing places among some rows (R,)."""
    order = np.arange(len(log))
    order[rows] = np.random.default_rng(1).permutation(order[rows])
    item = replace(log.item, codes=log.item.codes[order])
    return replace(log, item=item, category=replace(log.category, codes=log.category.codes[order]))


def test_rows_held_out_change_nothing_and_later_periods_nothing_of_those_before(log: BehaviourLog) -> None:
    rows, config = log.time_ms < np.sort(log.time_ms)[len(log) * 3 // 4], _config("gru", "gcn")
    begins_ms = RecurrentGraphLearner(log, rows, config).begins_ms
    last_period = rows & (log.time_ms >= begins_ms[-1])
    losses, passes = [], []
    for each in (log, _shuffled(log, ~rows), _shuffled(log, last_period)):
        learner = RecurrentGraphLearner(each, rows, config)
        batch = learner.batch(learner.graph(int(begins_ms[1])), learner.stretches.of_period(1))
        assert batch is not None
        losses.append(learner.loss(batch).detach())
        passes.append(learner.epoch())
    for loss in losses[1:]:
        torch.testing.assert_close(loss, losses[0], atol=0, rtol=0)
    assert passes[0] == passes[1] != passes[2]


def test_ten_seeds_learn_who_comes_next(log: BehaviourLog) -> None:
    found = []
    for seed in range(10):
        recurrent, graph = KINDS[seed % 2]
        learner = _learner(log, _config(recurrent, graph, seed=seed, periods=2, batch_size=256, lr=0.05))
        for _ in range(40):
            learner.epoch()
        model = learner.model()
        windows, target = _windows(learner)
        best = (model.on_cpu().encode(windows).user @ model.item_vectors().T).argmax(axis=1) + FIRST_KNOWN
        is_asked = (np.diff(windows.starts) >= 2) & (target < FIRST_KNOWN + ITEMS)
        found.append(float((best == target)[is_asked].mean()))
    assert min(found) > 0.75, found  # by chance 0.08


@pytest.mark.parametrize("name", ["gru-gnn", "lstm-gnn"])
def test_command_publishes_what_is_loaded_and_ranks(csv: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "c.toml").write_text('graph = "gat"\ndimension = 8\nread_events = 6\n')
    asked = ["--model", name, "--data-path", str(csv), "--save-dir", str(tmp_path / "a")]
    done = CliRunner().invoke(train.main, [*asked, "--config", str(tmp_path / "c.toml"), "--epochs", "2"])
    assert done.exit_code == 0, done.output
    for figure in ("ndcg@10", "accuracy", "precision", "recall", "f1"):
        assert figure in done.stdout
    loaded = load(tmp_path / "a")
    loaded.check_golden()
    assert loaded.item_vectors.shape == (len(loaded.item_ids), 9)
    assert set(loaded.metrics["test"]) >= {"ndcg_at_10", "accuracy", "precision", "recall", "f1"}


@pytest.mark.parametrize(
    ("options", "settings", "reason"),
    [
        ([], 'graph = "gat"\nheads = 3', "dimension is 64; it must be a multiple of the heads, 3"),
        ([], 'graph = "sage"', "graph is 'sage'"),
        ([], "periods = 0", "periods is 0"),
        ([], 'recurrent = "lstm"', "recurrent is 'lstm', and --model gru-gnn has the other cell"),
        ([], "min_item_count = 10000", "no item has min_item_count, 10000, rows"),
        (["--tune", "1"], "", "--tune means nothing with --model gru-gnn"),
        (["--continue-from", "artifacts"], "", "--continue-from means nothing with --model gru-gnn"),
        (["--positives", "buy"], "", "--positives means nothing with --model gru-gnn"),
        (["--seed", "9" * 20], "", "seed is 99999999999999999999"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_published(
    csv: Path, tmp_path: Path, options: list[str], settings: str, reason: str
) -> None:
    (tmp_path / "c.toml").write_text(settings)
    asked = ["--model", "gru-gnn", "--data-path", str(csv), "--save-dir", str(tmp_path / "a"), *options]
    done = CliRunner().invoke(train.main, [*asked, "--config", str(tmp_path / "c.toml")])
    assert done.exit_code in (1, 2)
    assert reason in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.output
    assert not (tmp_path / "a" / "current").exists()


def test_without_pytorch_geometric_it_is_said_what_to_install(
    csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convolutions.cache_clear()
    monkeypatch.setitem(sys.modules, "torch_geometric.nn", None)
    asked = ["--model", "lstm-gnn", "--data-path", str(csv), "--save-dir", str(tmp_path / "a")]
    done = CliRunner().invoke(train.main, asked)
    convolutions.cache_clear()
    assert done.exit_code == 2
    assert "pip install 'twintide[graph]'" in done.stderr and len(done.stderr.strip().splitlines()) == 1
