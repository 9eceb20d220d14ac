"""Rankers learn what can be learned, know nothing of the future, and are published by the command."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from models.errors import DataError, SettingsError
from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import UNKNOWN
from models.log.behaviour_log import BehaviourLog, Column, read_behaviour_log
from models.ranker import Candidates
from models.rankers.artifact import save_ranker
from models.rankers.columns import event_rows
from models.rankers.kinds import make_ranker
from models.rankers.load import load_ranker
from models.rankers.settings import KINDS, RankerSettings
from models.windows.histories import Histories
from offline import evaluate, train
from offline.rankers.evaluation import positives_of, variety_of
from offline.rankers.learner import Learner
from offline.rankers.measures import quality_of
from offline.rankers.regularisation import Regularisation, sample_counts
from offline.rankers.run import choose, with_unknown_share
from offline.rankers.samples import Samples, material_of
from offline.rankers.scoring import score, served, trained
from offline.rankers.settings import UNKNOWN_SHARES, RankerTrainSettings
from tests.offline.tiny_ranker import TINY

TOY = RankerTrainSettings(batch_size=64, lr=2e-2, negatives=2)


@pytest.fixture(scope="module")
def log(walk_csv: Path) -> BehaviourLog:
    return read_behaviour_log(walk_csv)


def _samples(log: BehaviourLog, settings: RankerSettings) -> tuple[Samples, Vocabulary]:
    vocabulary = vocabulary_of_log(log)
    rows = np.ones(len(log), np.bool_)
    return material_of(log, vocabulary, settings).samples(rows, TOY), vocabulary


def _toy() -> tuple[Samples, Vocabulary]:
    """Return users who have items of one of two groups, and who like the next one if it is of theirs."""
    items, users, length = 10, 300, 5
    vocabulary = Vocabulary([str(item) for item in range(items)], [2] * items, ["c"])
    random = np.random.default_rng(5)
    group, likes = random.integers(0, 2, users), random.integers(0, 2, users)
    of_group = np.repeat(group[:, None], length, axis=1)
    of_group[:, -1] = np.where(likes, group, 1 - group)
    item = 2 + 2 * random.integers(0, items // 2, (users, length)) + of_group
    place = np.arange(users * length)
    starts = np.arange(users + 1) * length
    kinds = np.ones(len(place), np.uint8)
    histories = Histories(item.ravel(), np.full(len(place), 2), kinds, place * 60_000, starts)
    target = starts[1:] - 1
    return Samples(histories, target, starts[:-1], np.arange(users), likes.astype(np.float32)), vocabulary


@pytest.mark.parametrize("kind", KINDS)
def test_ten_seeds_learn_what_can_be_learned(kind: str) -> None:
    settings = replace(TINY, kind=kind)  # type: ignore[arg-type]
    samples, vocabulary = _toy()
    learned, held_out = samples.take(np.arange(200)), samples.take(np.arange(200, 300))
    found = []
    for seed in range(10):
        torch.manual_seed(seed)
        of_seed = RankerTrainSettings(
            batch_size=100, lr=4e-2, positives=(1,), negatives_from="rows", seed=seed
        )
        learner = Learner(make_ranker(vocabulary, settings), learned, vocabulary, of_seed)
        for _ in range(20):
            learner.epoch()
        found.append(quality_of(score(learner.ranker, held_out, learner.drawer, of_seed)).auc)
    assert min(found) > 0.9, found


@pytest.mark.parametrize("kind", KINDS)
def test_shuffling_the_future_changes_no_past(log: BehaviourLog, kind: str) -> None:
    settings = replace(TINY, kind=kind)  # type: ignore[arg-type]
    samples, _ = _samples(log, settings)
    some = np.arange(0, len(samples), 7)
    before = samples.rows(some, settings)
    random = np.random.default_rng(0)
    for row, place in enumerate(some.tolist()):
        target, end = samples.target[place], samples.histories.starts[samples.user[place] + 1]
        shuffled = np.arange(len(samples.histories.item))
        shuffled[target:end] = random.permutation(shuffled[target:end])
        other = replace(samples, histories=_shuffled(samples.histories, shuffled))
        after = other.rows(some[row : row + 1], settings)
        width = before.item.shape[1] if kind == "dsin" else after.item.shape[1]
        np.testing.assert_array_equal(before.item[row, :width], after.item[0])
        assert (before.event[row] < target).all()


@pytest.mark.parametrize("kind", KINDS)
def test_shuffling_the_future_changes_no_feature(log: BehaviourLog, kind: str) -> None:
    settings = replace(TINY, kind=kind, features=True)  # type: ignore[arg-type]
    samples, vocabulary = _samples(log, settings)
    random = np.random.default_rng(1)
    some = np.arange(0, len(samples), 7)
    item = random.integers(1, vocabulary.item_count, (len(some), 3))
    item[:, 0] = samples.histories.item[samples.target[some]]
    category = vocabulary.categories_of(item, np.full(item.shape, UNKNOWN))
    before = samples.features(some, item, category, settings)
    for row, place in enumerate(some.tolist()):
        target, end = samples.target[place], samples.histories.starts[samples.user[place] + 1]
        shuffled = np.arange(len(samples.histories.item))
        shuffled[target:end] = random.permutation(shuffled[target:end])
        other = replace(samples, histories=_shuffled(samples.histories, shuffled))
        own = slice(row, row + 1)
        after = other.features(some[own], item[own], category[own], settings)
        np.testing.assert_array_equal(before.user[own], after.user)
        np.testing.assert_array_equal(before.candidate[own], after.candidate)
    assert before.candidate.any()


def test_repeats_are_told_by_features_alone() -> None:
    """Users choose again what they had, among items that are all new to the model."""
    items, users, length = 400, 300, 4
    vocabulary = Vocabulary([str(item) for item in range(items)], [2] * items, ["c"])
    random = np.random.default_rng(6)
    item, chooses = 2 + random.integers(0, items, (users, length)), random.integers(0, 2, users)
    item[:, -1] = np.where(chooses, item[:, 0], item[:, -1])
    place, starts = np.arange(users * length), np.arange(users + 1) * length
    kinds = np.ones(len(place), np.uint8)
    histories = Histories(item.ravel(), np.full(len(place), 2), kinds, place * 60_000, starts)
    label = chooses.astype(np.float32)
    samples = Samples(histories, starts[1:] - 1, starts[:-1], np.arange(users), label)
    train = RankerTrainSettings(batch_size=50, lr=2e-2, positives=(1,), negatives_from="rows")
    found = []
    for features in (False, True):
        torch.manual_seed(0)
        ranker = make_ranker(vocabulary, replace(TINY, features=features))
        learner = Learner(ranker, samples.take(np.arange(200)), vocabulary, train)
        for _ in range(6):
            learner.epoch()
        held_out = samples.take(np.arange(200, 300))
        found.append(quality_of(score(ranker, held_out, learner.drawer, train)).auc)
    assert found[1] > 0.95 > 0.7 > found[0]


def _shuffled(histories: Histories, order: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Histories:
    """Return histories with other items at the same times."""
    return replace(histories, item=histories.item[order], category=histories.category[order])


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_reads_what_is_served_at_its_time(log: BehaviourLog, kind: str) -> None:
    settings = replace(TINY, kind=kind)  # type: ignore[arg-type]
    samples, _ = _samples(log, settings)
    histories = samples.histories
    for place in range(0, len(samples), 11):
        target, begin = int(samples.target[place]), int(histories.starts[samples.user[place]])
        own = Histories(
            histories.item[begin:target],
            histories.category[begin:target],
            histories.behaviour[begin:target],
            histories.time_ms[begin:target],
            np.array([0, target - begin]),
        )
        served = event_rows(own, histories.time_ms[[target]], settings)
        trained = samples.rows(np.array([place]), settings)
        for name, column in served.columns().items():
            np.testing.assert_array_equal(column, trained.columns()[name])


@pytest.mark.parametrize("features", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_held_out_rows_are_given_what_is_served(
    log: BehaviourLog, tmp_path: Path, kind: str, features: bool
) -> None:
    settings = replace(TINY, kind=kind, features=features)  # type: ignore[arg-type]
    samples, vocabulary = _samples(log, settings)
    torch.manual_seed(1)
    ranker, some = make_ranker(vocabulary, settings), samples.take(np.arange(0, len(samples), 60))
    Learner(ranker, samples, vocabulary, TOY)  # which fits the scale of features
    item = np.random.default_rng(0).integers(1, vocabulary.item_count, (len(some), 3))
    category = vocabulary.categories_of(item, np.full(item.shape, UNKNOWN))
    found = trained(ranker)(some, item, category)
    asked = served(save_ranker(tmp_path, ranker, vocabulary, {}, {}))(some, item, category)
    np.testing.assert_allclose(asked, found, atol=1e-4)
    assert np.ptp(found) > 1e-3


def test_what_is_unknown_is_not_popular_and_novelty_is_by_all_positives(log: BehaviourLog) -> None:
    samples, vocabulary = _samples(log, TINY)
    item = samples.histories.item.copy()
    item[samples.target[: len(samples) // 3]] = UNKNOWN
    counts = positives_of(replace(samples, histories=replace(samples.histories, item=item)), vocabulary)
    assert counts[:2].tolist() == [0, 0]
    assert counts.sum() == (item[samples.target] != UNKNOWN).sum()
    best = np.argsort(-counts)[:10]

    def by_count(_: Samples, item: np.ndarray, __: np.ndarray) -> np.ndarray:
        return np.asarray(counts[item])

    found = variety_of(by_count, samples, vocabulary, counts)
    assert found.coverage == 10 / len(vocabulary.item_ids)
    assert found.novelty == pytest.approx(np.mean([-np.log2(counts[each] / counts.sum()) for each in best]))


def test_as_many_items_are_hidden_as_held_out_rows_have_unknown_ones(log: BehaviourLog) -> None:
    samples, _ = _samples(log, TINY)
    item = samples.histories.item.copy()
    item[samples.target[: len(samples) * 3 // 10]] = UNKNOWN
    held_out = replace(samples, histories=replace(samples.histories, item=item))
    assert with_unknown_share(TOY, held_out).unknown_share == pytest.approx(0.3, abs=0.001)
    assert with_unknown_share(TOY, samples).unknown_share == UNKNOWN_SHARES[0]
    given = replace(TOY, unknown_share=0.0)
    assert with_unknown_share(given, held_out).unknown_share == 0


def test_a_value_occurs_in_as_many_samples_as_a_loop_counts(log: BehaviourLog) -> None:
    samples, vocabulary = _samples(log, TINY)
    samples = samples.take(np.arange(0, len(samples), 2))
    histories = samples.histories
    counted = np.zeros(vocabulary.item_count)
    for target, user in zip(samples.target, samples.user, strict=True):
        first = max(histories.starts[user], target - TINY.max_events)
        counted[list({*histories.item[first : target + 1].tolist()})] += 1
    found = sample_counts(samples, histories.item, vocabulary.item_count, TINY.max_events)
    np.testing.assert_array_equal(found, np.maximum(counted, 1))


def test_regularisation_is_the_papers(log: BehaviourLog) -> None:
    samples, vocabulary = _samples(log, TINY)
    learner = Learner(make_ranker(vocabulary, TINY), samples, vocabulary, TOY)
    asked = learner.questions.asked(np.arange(20), np.random.default_rng(0))
    vectors = learner.ranker.vectors
    found = Regularisation(samples, TINY.max_events, vectors, 0.5).loss([asked]).item()
    expected = 0.0
    for table, values, (of_events, of_candidates) in (
        (vectors.item, samples.histories.item, (asked.events.item, asked.item)),
        (vectors.category, samples.histories.category, (asked.events.category, asked.category)),
    ):
        counts = sample_counts(samples, values, table.num_embeddings, TINY.max_events)
        for row in {*of_events.flatten().tolist(), *of_candidates.flatten().tolist()}:
            expected += 0.25 * sum(float(each) ** 2 for each in table.weight[row].tolist()) / counts[row]
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_command_publishes_a_ranker_that_can_be_asked(
    walk_csv: Path, published: Callable[[str], tuple[Path, str]], kind: str
) -> None:
    store, output = published(kind)
    assert "test: auc 0." in output and "test, ten best: coverage " in output
    loaded = load_ranker(str(store))
    assert loaded.version in output
    assert (loaded.settings.kind, loaded.settings.max_events) == (kind, 10)
    item = loaded.vocabulary.item_indices(["item-3é", "never there"])
    candidates = Candidates(item, loaded.item_categories[item], np.array([0, 2]))
    nothing = np.zeros(0, np.int64)
    nobody = Histories(nothing, nothing, np.zeros(0, np.uint8), nothing, np.zeros(2, np.int64))
    assert np.isfinite(loaded.ranker.rank(nobody, candidates, np.array([1])).score).all()
    training = json.loads((store / "current" / "config.json").read_text())["training"]
    assert training["regularisation"] == 0.01
    _check_evaluation(walk_csv, store, training["held_out_version"])


def _check_evaluation(log: Path, store: Path, held_out: str) -> None:
    """Check that rows held out are scored by who has not learned them, and that none are after all."""
    given = ["--artifact", str(store), "--data-path", str(log)]
    found = CliRunner().invoke(evaluate.main, given)
    assert found.exit_code == 0, found.output
    lines = found.output.splitlines()
    (ranker,) = (line.split() for line in lines if line.startswith("ranker  "))
    (popular,) = (line.split() for line in lines if line.startswith("popularity "))
    assert any(line.startswith(f"ranker {held_out}") for line in lines)
    assert 0 < float(ranker[1]) < 1 and popular[3:6] == ["-", "-", "-"]
    later = CliRunner().invoke(evaluate.main, [*given, "--cutoff", "2031-01-01"])
    assert later.exit_code == 1 and "no positive row" in later.output
    refused = CliRunner().invoke(evaluate.main, [*given, "--details"])
    assert refused.exit_code == 2 and "--details means nothing for a ranker" in refused.output


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model", "din", "--tune", "1"], "--tune means nothing with --model din"),
        (["--model", "din", "--positives", "like"], "'like' is no behaviour"),
        (["--model", "din", "--negatives-from", "rows"], "name the positives"),
        (["--model", "din", "--positives", "buy"], "the train slice has no positive row"),
        (["--model", "din", "--epochs", "0"], "epochs is 0"),
        (["--positives", "buy"], "--positives means nothing with --model towers"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    walk_csv: Path, tmp_path: Path, arguments: list[str], reason: str
) -> None:
    given = [*arguments, "--data-path", str(walk_csv), "--save-dir", str(tmp_path / "r")]
    found = CliRunner().invoke(train.main, given)
    assert found.exit_code in (1, 2)
    assert reason in found.output
    assert not (tmp_path / "r" / "current").exists()


def test_small_logs_are_learned_in_small_steps() -> None:
    assert [RankerTrainSettings().batch_of(samples) for samples in (50, 5_000, 10**6)] == [32, 50, 256]
    assert RankerTrainSettings(batch_size=7).batch_of(5_000) == 7


def test_log_of_one_item_is_refused_because_nothing_can_be_ranked_against_it(log: BehaviourLog) -> None:
    one = Column(np.zeros(len(log), np.int32), np.array(["a"], object))
    with pytest.raises(DataError, match=r"no row of the validation slice has an item .* \(1 are known\)"):
        choose(replace(log, item=one, category=one).select(np.arange(len(log)) < 300), TINY, TOY)


@pytest.mark.parametrize("sound", [1, 0])
def test_ranker_that_diverges_is_the_best_pass_before_or_refused(
    log: BehaviourLog, monkeypatch: pytest.MonkeyPatch, sound: int
) -> None:
    passes, learn = 0, Learner.epoch

    def epoch(learner: Learner) -> float:
        nonlocal passes
        passes, loss = passes + 1, learn(learner)
        if passes > sound:
            for weights in learner.ranker.parameters():
                weights.data.fill_(np.nan)
        return loss

    monkeypatch.setattr(Learner, "epoch", epoch)
    some = log.select(np.arange(len(log)) < 300)
    if not sound:
        with pytest.raises(SettingsError, match="no numbers any more after one pass: give a lower lr than"):
            choose(some, TINY, TOY)
        return
    chosen = choose(some, TINY, TOY)
    assert passes > chosen.best.number == 1
    assert np.isfinite([chosen.test.auc, chosen.test.calibration_error]).all()
