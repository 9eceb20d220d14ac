"""Two towers over features: as loops have them, learned by ten seeds, published, refused in one line."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from models.artifact.artifact import load
from models.artifact.embeddings import Embeddings
from models.errors import ArtifactError, DataError
from models.events import Event
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.rankers.layers import Events
from models.two_tower.settings import TwoTowerSettings
from models.windows.log_histories import EVERYTHING, histories_of_log
from offline import train
from offline.encoders.run import Recipe, train_encoder
from offline.two_tower.learner import TwoTowerLearner
from offline.two_tower.recipe import read_tables, two_tower_recipe
from offline.two_tower.settings import TwoTowerConfig, read_two_tower_config

USERS = "user_id,city,age,tags\n" + "".join(
    f"u{user},{'abc'[user % 3]},{20 + user},{'x|y' if user % 2 else 'y'}\n" for user in range(60)
)
ITEMS = "item_id,kind,price,words\n" + "".join(
    f"i{item},k{item // 20},{item}.5,all| w{item % 4}\n"
    for item in range(61)  # nobody had the last one
)
CONFIG = """
[model]
dimension = 8
id_dimension = 6
value_dimension = 3
event_dimension = 5
history_events = 6
units = [9, 7]
dropout = 0.1
[training]
epochs = 2
batch_size = 32
learning_rate = 0.02
learning_rate_decay_factor = 0.5
learning_rate_decay_steps = 100
num_negatives = 3
[data]
user_categorical = ["city"]
user_numeric = ["age"]
user_history = ["tags"]
item_categorical = ["kind"]
item_numeric = ["price"]
item_history = ["words"]
[paths]
log = "log.csv"
users = "users.csv"
items = "items.csv"
save_dir = "artifacts"
"""


def _write(folder: Path, seed: int = 0) -> None:
    """Write a log of users who have items of one of three groups, which the city of each tells."""
    random = np.random.default_rng(seed)
    lines = ["user_id,item_id,behavior_type,user_geohash,item_category,time"]
    for user in range(60):
        for event in range(10):
            item = user % 3 * 20 + int(random.integers(20))
            hour = f"2024-03-{1 + event:02} {int(random.integers(24)):02}"
            lines.append(f"u{user},i{item},1,,c{item % 2},{hour}")
    (folder / "log.csv").write_text("\n".join(lines) + "\n")
    (folder / "users.csv").write_text(USERS)
    (folder / "items.csv").write_text(ITEMS)
    (folder / "t.toml").write_text(CONFIG)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    _write(tmp_path)
    return tmp_path


def _config(**training: object) -> TwoTowerConfig:
    config = read_two_tower_config(Path("t.toml"), {})
    return replace(config, training=replace(config.training, **training))  # type: ignore[arg-type]


def _learner(config: TwoTowerConfig) -> tuple[BehaviourLog, TwoTowerLearner]:
    log = read_behaviour_log("log.csv")
    return log, TwoTowerLearner(log, np.ones(len(log), np.bool_), config, *read_tables(config))


def _slow_layers(layers: torch.nn.Module, inputs: list[float]) -> list[float]:
    """Return what Linear, BatchNorm and ReLU make of one row, number by number."""
    state = {name: value.tolist() for name, value in layers.state_dict().items()}
    for n in range(2):
        outputs = []
        for unit, weights in enumerate(state[f"linear.{n}.weight"]):
            value = sum(w * x for w, x in zip(weights, inputs, strict=True)) + state[f"linear.{n}.bias"][unit]
            value = (value - state[f"norm.{n}.running_mean"][unit]) / (
                state[f"norm.{n}.running_var"][unit] + 1e-5
            ) ** 0.5
            outputs.append(max(0.0, value * state[f"norm.{n}.weight"][unit] + state[f"norm.{n}.bias"][unit]))
        inputs = outputs
    return [
        sum(w * x for w, x in zip(weights, inputs, strict=True)) + bias
        for weights, bias in zip(state["last.weight"], state["last.bias"], strict=True)
    ]


def test_vectors_are_those_of_loops(folder: Path) -> None:
    log, learner = _learner(_config())
    learner.epoch()
    model = learner.model()
    user_ids, histories = histories_of_log(log, learner.vocabulary, EVERYTHING)
    towers = {name: value.tolist() for name, value in learner.towers.state_dict().items()}
    ages, prices = [20 + user for user in range(60)], [item + 0.5 for item in range(61)]

    def scaled(value: float, values: list[float] | list[int]) -> float:
        mean = sum(values) / len(values)
        return float((value - mean) / (sum((each - mean) ** 2 for each in values) / len(values)) ** 0.5)

    def mean(rows: list[list[float]]) -> list[float]:
        return [sum(each) / len(rows) for each in zip(*rows, strict=True)]

    encoded = model.on_cpu().encode(histories, user_ids).user
    for place, user_id in enumerate(user_ids[:12]):
        number = int(user_id[1:])
        tags = [1, 2] if number % 2 else [2]  # x, y
        known = [
            *towers["users.id.weight"][1 + learner.user_ids.index(user_id)],
            *towers["users.categorical.0.weight"][1 + number % 3],
            *mean([towers["users.history.0.weight"][tag] for tag in tags]),
            scaled(number + 20, ages),
        ]
        events = [
            [
                a + b
                for a, b in zip(
                    towers["event_item.weight"][item], towers["event_category.weight"][of], strict=True
                )
            ]
            for item, of in zip(
                histories.item[: histories.starts[place + 1]][histories.starts[place] :][-6:].tolist(),
                histories.category[: histories.starts[place + 1]][histories.starts[place] :][-6:].tolist(),
                strict=True,
            )
        ]
        expected = _slow_layers(learner.towers.user_layers, [*known, *mean(events), *events[-1]])
        np.testing.assert_allclose(encoded[place], expected, atol=1e-5)
    words = sorted({"all", *(f"w{n}" for n in range(4))})
    for place, item_id in enumerate(learner.vocabulary.item_ids):
        number = int(item_id[1:])
        codes = [1 + words.index("all"), 1 + words.index(f"w{number % 4}")]
        inputs = [
            *towers["items.id.weight"][0 if item_id == "i60" else 1 + place],
            *towers["items.categorical.0.weight"][1 + number // 20],
            *mean([towers["items.history.0.weight"][code] for code in codes]),
            scaled(number + 0.5, prices),
        ]
        expected = _slow_layers(learner.towers.item_layers, inputs)
        np.testing.assert_allclose(model.item_vectors()[place], expected, atol=1e-5)
    assert learner.vocabulary.item_ids[-1] == "i60"  # known by its features alone


def test_padding_changes_nothing_the_loss_included_and_every_parameter_learns(folder: Path) -> None:
    losses = []
    for width in (0, 4):
        _, learner = _learner(_config(unknown_share=0.0))
        learner.towers.train()
        for module in learner.towers.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        some = np.arange(0, 60)
        asked = learner.questions.asked(some, np.random.default_rng(0))
        padded = Events(*(torch.nn.functional.pad(column, (0, width)) for column in asked.events))
        user = torch.from_numpy(learner.questions.samples.user[some])
        loss = learner.loss.total(learner.scores(replace(asked, events=padded), user), asked)
        loss.backward()  # type: ignore[no-untyped-call]
        without = [
            name
            for name, value in learner.towers.named_parameters()
            if value.grad is None or not value.grad.any()
        ]
        # What batch normalisation subtracts again, a bias before it, has no slope but by rounding.
        assert not [name for name in without if not name.endswith("bias")]
        losses.append((loss.detach(), [value.grad for value in learner.towers.parameters()]))
    torch.testing.assert_close(*losses, atol=1e-5, rtol=1e-4)


def test_rows_that_are_not_to_be_learned_change_nothing(folder: Path) -> None:
    log, config = read_behaviour_log("log.csv"), _config()
    rows = log.time_ms < np.sort(log.time_ms)[400]
    items = log.item.codes.copy()
    items[~rows] = np.random.default_rng(0).permutation(items[~rows])
    shuffled = replace(log, item=replace(log.item, codes=items))
    tables = read_tables(config)
    losses, vectors = [], []
    for each in (log, shuffled):
        learner = TwoTowerLearner(each, rows, config, *tables)
        losses.append(learner.epoch())
        vectors.append(learner.model().item_vectors())
    assert losses[0] == losses[1]
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_ten_seeds_learn_what_features_and_histories_tell(folder: Path) -> None:
    found = []
    for seed in range(10):
        of_seed = _config(seed=seed, unknown_share=0.0, learning_rate_decay_steps=10_000)
        log, learner = _learner(of_seed)
        for _ in range(14):
            learner.epoch()
        model = learner.model()
        user_ids, histories = histories_of_log(log, learner.vocabulary, EVERYTHING)
        best = (model.on_cpu().encode(histories, user_ids).user @ model.item_vectors().T).argmax(axis=1)
        liked = [int(learner.vocabulary.item_ids[place][1:]) // 20 for place in best]
        found.append(
            np.mean([int(each[1:]) % 3 == group for each, group in zip(user_ids, liked, strict=True)])
        )
    assert min(found) > 0.9, found


def test_learning_rate_falls_and_training_stops_early(folder: Path) -> None:
    config = _config(epochs=50, early_stopping_patience=1, learning_rate_decay_steps=5)
    log, learner = _learner(config)
    learner.epoch()
    steps = -(-len(log) // 32)
    rate = learner.learning_rate()
    assert rate == pytest.approx(0.02 * 0.5 ** (steps // 5))
    numbers: list[int] = []
    recipe: Recipe = two_tower_recipe(
        log, replace(config, evaluation=replace(config.evaluation, final_fit=False)), read_tables(config)
    )
    done = train_encoder(log, recipe, folder / "a", lambda epoch: numbers.append(epoch.number))
    assert numbers[-1] == done.best.number + 1 < 50


def test_command_publishes_what_knows_users_by_their_ids(folder: Path) -> None:
    done = CliRunner().invoke(train.main, ["--model", "two-tower", "--config", "t.toml", "--epochs", "3"])
    assert done.exit_code == 0, done.output
    artifact = load(folder / "artifacts")
    assert artifact.version in done.output
    ask = Embeddings(artifact)
    event = Event("u1", "i21", 1, 1_710_000_000_000)
    vectors = [ask.get_user_embedding(user_id, [event]) for user_id in ("u1", "u2", "nobody", "somebody")]
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3
    np.testing.assert_array_equal(vectors[2], vectors[3])  # strangers are told apart by their events alone
    assert np.abs(vectors[2] - ask.get_user_embedding("nobody")).max() > 1e-3
    assert len(ask.recommend_items("u1", k=3, events=[event])) == 3
    (artifact.path / "users.msgpack").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"users.msgpack is damaged"):
        load(folder / "artifacts")


Change = Callable[[str], str]


def _edited(name: str, old: str, new: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return edit


def _with_commas(folder: Path) -> None:
    header, *lines = (folder / "users.csv").read_text().splitlines()
    (folder / "users.csv").write_text("\n".join([header, *(f"{line}," for line in lines)]) + "\n")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lambda folder: (folder / "users.csv").unlink(), "users.csv cannot be read (No such file"),
        (_edited("users.csv", "city", "town"), "users.csv has no column 'city', only user_id, town"),
        (_edited("users.csv", "a,20,", "a,nan,"), "users.csv:2 has age 'nan': it must be a finite number"),
        (_edited("items.csv", "k0,1.5", "k0,inf"), "items.csv:3 has price 'inf'"),
        (_edited("items.csv", "i1,", ","), "items.csv:3 has no item_id"),
        (_edited("users.csv", "u7,", "u6,"), "users.csv:9 has user_id 'u6' again"),
        (_edited("users.csv", USERS, ""), "users.csv is no CSV file with a header"),
        (_edited("t.toml", "[paths]", "[pathes]"), "there is no section [pathes]"),
        (_edited("t.toml", "num_negatives", "negatives"), "[training] has no setting 'negatives'"),
        (_edited("t.toml", "epochs = 2", 'epochs = "two"'), "[training] epochs is 'two'"),
        (_edited("t.toml", "factor = 0.5", "factor = 1.5"), "learning_rate_decay_factor is 1.5"),
        (_edited("t.toml", "batch_size = 32", "batch_size = 1"), "[training] batch_size is 1"),
        (_with_commas, "users.csv: its lines have more values than its header names (user_id, city"),
        (_edited("t.toml", "dimension = 8", "dimension = 0"), "dimension is 0; it must be at least 1"),
        (_edited("t.toml", "units = [9, 7]", "units = []"), "units is ()"),
        (_edited("t.toml", 'users = "users.csv"', ""), "[paths] no users"),
        (_edited("t.toml", 'log = "log.csv"', 'log = "nowhere.csv"'), "nowhere.csv"),
        (_edited("t.toml", "[paths]", "[paths"), "is not TOML"),
    ],
)
def test_what_is_broken_is_one_line_and_nothing_is_published(
    folder: Path, fault: Callable[[Path], None], reason: str
) -> None:
    fault(folder)
    done = CliRunner().invoke(train.main, ["--model", "two-tower", "--config", "t.toml"])
    assert done.exit_code in (1, 2)
    assert reason in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.output
    assert not (folder / "artifacts").exists()


def test_one_positive_is_too_few(folder: Path) -> None:
    _edited("log.csv", ",1,,", ",4,,")(folder)
    config = _config()
    config = replace(config, data=replace(config.data, positives=(4,)))
    with pytest.raises(DataError, match=r"log\.csv: one row of those that are learned is positive"):
        _learner(config)


def test_settings_are_the_towers_own() -> None:
    assert read_two_tower_config(None, {"lr": 0.1}).training.learning_rate == 0.1
    assert read_two_tower_config(None, {}).model == TwoTowerSettings()
