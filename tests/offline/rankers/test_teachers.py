"""A ranker teaches the towers what it knows, reads what windows held, and nothing that is held out."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.metrics import roc_auc_score

from models.artifact.artifact import load
from models.ids.vocabulary import Vocabulary
from models.ids.vocabulary_file import FIRST_KNOWN, PADDING
from models.inference.tower_model import TowerModel
from models.ranker import Candidates, Scores
from models.rankers.load import LoadedRanker, load_ranker
from models.rankers.settings import RankerSettings
from models.towers.dual_towers import DualTowers
from models.towers.histories import FeatureSettings
from models.towers.settings import ModelSettings
from models.windows.histories import Histories
from models.windows.window import WindowSettings
from offline import train
from offline.training import final_fit, lessons, losses, selection
from offline.training.data import Stretches
from offline.training.held_out import ONE_PROCESS
from offline.training.learner import Course, Learner
from offline.training.lessons import Lessons, distinct, lessons_of, pasts_of
from offline.training.report import text_of_epoch
from offline.training.settings import TrainSettings
from tests.offline.made_stretches import stretches_of

ITEMS, USERS, EVENTS = 20, 60, 30
VOCABULARY = Vocabulary([f"i{n}" for n in range(ITEMS)], [2] * ITEMS, ["a"])
#: A secret half of the items.
IS_OURS = np.random.default_rng(5).permutation(ITEMS) < ITEMS // 2
FAST = "dimension = 16\ndropout = 0.1\nshort_events = 4\nlr = 0.01\nbatch_size = 4\nlive_items = false\n"


class Partisan:
    """Says that whoever had an item of one half will take one of the same half, much likelier than not."""

    def rank(self, histories: Histories, candidates: Candidates, now_ms: np.ndarray) -> Scores:
        last = histories.item[histories.starts[1:] - 1] - FIRST_KNOWN
        owner = np.repeat(np.arange(len(histories)), np.diff(candidates.starts))
        is_same = IS_OURS[last[owner]] == IS_OURS[candidates.item - FIRST_KNOWN]
        return Scores(np.where(is_same, 3.0, 0.0).astype(np.float32))


class Knowing:
    """Says how much likelier items are than to be drawn, where they are taken with these chances (I,)."""

    def __init__(self, chance: np.ndarray, drawn: np.ndarray) -> None:
        self.said = np.pad(np.log(chance / drawn), (FIRST_KNOWN, 0))

    def rank(self, histories: Histories, candidates: Candidates, now_ms: np.ndarray) -> Scores:
        return Scores(self.said[candidates.item].astype(np.float32))


def loaded(ranker: Any, **training: object) -> LoadedRanker:
    """Return a ranker as if it had been loaded."""
    said = {"uniform_share": 0.5, "popularity_power": 1.0, "positives": [1, 2, 3, 4], **training}
    categories = np.concatenate(([0, 1], VOCABULARY.item_categories))
    return LoadedRanker(ranker, VOCABULARY, "0" * 12, Path(), categories, RankerSettings(), said)


def by_chance() -> Stretches:
    """Return stretches of users whose every item is by chance: what comes next cannot be told."""
    item = np.random.default_rng(1).integers(0, ITEMS, USERS * EVENTS) + FIRST_KNOWN
    return stretches_of(item, EVENTS)


def auc_of_halves(found: Lessons | None) -> float:
    """Return how often towers that have learned put an item of the half that a user had last above others."""
    torch.manual_seed(0)
    towers = DualTowers(VOCABULARY, FeatureSettings(), ModelSettings(dimension=16, dropout=0.0))
    settings = TrainSettings(device="cpu", lr=0.01, teacher_weight=4.0)
    learner = Learner(towers, by_chance(), settings, Course(6, np.inf), ONE_PROCESS, found)
    for number in range(1, 7):
        learner.epoch(number, "direct")
    model = TowerModel.of(learner.averaged(), FeatureSettings())
    one_each = np.arange(ITEMS) + FIRST_KNOWN
    users = Histories(
        *(one_each, np.full_like(one_each, 2), np.ones(ITEMS, np.uint8), np.zeros(ITEMS, np.int64)),
        np.arange(ITEMS + 1),
    )
    scores = model.on_cpu().encode(users).user @ model.item_vectors().T
    others = ~np.eye(ITEMS, dtype=np.bool_)  # the item itself may be learned to come again
    return float(roc_auc_score((IS_OURS[:, None] == IS_OURS)[others], scores[others]))


def test_towers_learn_an_order_that_the_log_does_not_tell() -> None:
    settings = TrainSettings(teacher_share=0.5, teacher_candidates=10)
    teacher = loaded(Partisan(), negatives_from="rows")
    taught = lessons_of(teacher, by_chance(), VOCABULARY, WindowSettings(), settings)
    assert auc_of_halves(None) < 0.65
    assert auc_of_halves(taught) > 0.9


def test_what_a_ranker_says_becomes_a_softmax_of_all_items() -> None:
    stretches = by_chance()
    chance = np.random.default_rng(2).dirichlet(np.ones(ITEMS))
    counts = np.bincount(stretches.histories.item - FIRST_KNOWN, minlength=ITEMS)
    drawn = 0.5 / ITEMS + 0.5 * counts / counts.sum()
    settings = TrainSettings(teacher_share=0.1, teacher_candidates=8, teacher_temperature=2.0)
    found = lessons_of(loaded(Knowing(chance, drawn)), stretches, VOCABULARY, WindowSettings(), settings)
    assert len(found) == round(0.1 * USERS * (EVENTS - 1))
    item = found.item.numpy()
    expected = np.where(item == PADDING, 0, chance[item - FIRST_KNOWN] ** (1 / 2.0))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.share.numpy(), expected, rtol=1e-4)
    np.testing.assert_array_equal(item[:, 0], stretches.histories.item[found.event.numpy()])
    assert (np.diff(found.event.numpy()) > 0).all()
    assert not np.isin(found.event.numpy(), stretches.histories.starts).any()


def test_pasts_are_what_windows_held() -> None:
    random = np.random.default_rng(4)
    starts, time_ms = np.array([0, 40, 40, 70]), np.cumsum(random.integers(0, 50, 70))
    item = np.arange(70) + FIRST_KNOWN
    histories = Histories(item, item, np.ones(70, np.uint8), time_ms, starts)
    event = np.array([1, 5, 20, 39, 41, 69])
    window = WindowSettings(max_events=12, horizon_ms=200)
    found = pasts_of(histories, event, window)
    held = [
        found.item[begin:end].tolist() for begin, end in zip(found.starts, found.starts[1:], strict=False)
    ]
    for past, target in zip(held, event, strict=True):
        begin = 0 if target < 40 else 40
        newest = [at for at in range(begin, target)][-12:]
        assert past == [
            at + FIRST_KNOWN for at in newest if time_ms[at] >= time_ms[target - 1] - window.horizon_ms
        ]
    assert len({len(past) for past in held}) > 2


def test_an_item_stands_once_beside_a_target() -> None:
    found = distinct(np.array([[7, 3, 7, 3, 9], [4, 5, 6, 7, 8]]))
    assert found.tolist() == [[7, 3, PADDING, PADDING, 9], [4, 5, 6, 7, 8]]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_loss_is_least_where_scores_are_the_teachers(temperature: float) -> None:
    said = torch.tensor([[1.0, -2.0, 0.5, -torch.inf], [0.0, 0.0, 3.0, 1.0]])
    share = (said / temperature).softmax(dim=1)
    scores = torch.where(said.isinf(), -torch.inf, said + torch.tensor([[7.0], [-3.0]])).requires_grad_()
    losses.listwise(scores, share, temperature).sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(scores.grad, torch.zeros(2, 4), atol=1e-5, rtol=0)
    moved = scores.detach() + torch.tensor([0.5, 0, 0, 0])
    assert (losses.listwise(moved, share, temperature) > losses.listwise(scores, share, temperature)).all()


def _run(walk_csv: Path, folder: Path, *arguments: object, settings: str = FAST) -> Any:
    folder.mkdir(exist_ok=True)
    (folder / "fast.toml").write_text(settings)
    given = ["--data-path", walk_csv, "--save-dir", folder, "--config", folder / "fast.toml", "--epochs", 4]
    return CliRunner().invoke(train.main, [str(each) for each in (*given, *arguments)])


def test_only_what_has_not_learned_held_out_rows_teaches_until_the_final_fit(
    walk_csv: Path,
    published: Callable[[str], tuple[Path, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: dict[str, tuple[str, int]] = {}

    def watched(name: str) -> Callable[..., Lessons]:
        def watch(teacher: LoadedRanker, train: Stretches, *others: Any) -> Lessons:
            found = lessons_of(teacher, train, *others)
            asked[name] = teacher.version, int(train.histories.time_ms[found.event.numpy()].max())
            return found

        return watch

    for module, name in ((selection, "selection"), (final_fit, "final fit")):
        monkeypatch.setattr(module, "lessons_of", watched(name))
    monkeypatch.setattr(selection.Distilled, "helps", property(lambda _: True))
    store, _ = published("din")
    ranker = load_ranker(str(store))
    found = _run(walk_csv, tmp_path, "--teacher", store)
    assert found.exit_code == 0, found.output
    artifact = load(tmp_path)
    before = load(tmp_path / artifact.training["held_out_version"]).training
    assert asked["selection"][0] == ranker.training["held_out_version"]
    assert asked["selection"][1] <= before["learned_until_ms"] < before["cutoff_ms"]
    assert asked["final fit"][0] == ranker.version == artifact.training["teacher"]
    assert asked["final fit"][1] > before["cutoff_ms"]
    assert re.search(
        r"teacher: validation ndcg 0\.\d{4} with it, 0\.\d{4} without, so it teaches", found.stdout
    )
    alone = _run(walk_csv, tmp_path / "alone")
    assert alone.exit_code == 0, alone.output
    assert np.abs(load(tmp_path / "alone").item_vectors - artifact.item_vectors).max() > 1e-3


def test_a_teacher_that_does_not_help_is_left_out(
    walk_csv: Path,
    published: Callable[[str], tuple[Path, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selection.Distilled, "helps", property(lambda _: False))
    found, alone = (
        _run(walk_csv, tmp_path / "taught", "--teacher", published("din")[0]),
        _run(walk_csv, tmp_path / "alone"),
    )
    assert (found.exit_code, alone.exit_code) == (0, 0), found.output
    assert "so it is left out" in found.stdout
    taught, without = load(tmp_path / "taught"), load(tmp_path / "alone")
    np.testing.assert_array_equal(taught.item_vectors, without.item_vectors)
    assert "teacher" not in taught.training and set(taught.metrics["teacher"]) == {"alone", "taught", "error"}


def test_interrupted_lessons_go_on_to_the_same_version(
    walk_csv: Path,
    published: Callable[[str], tuple[Path, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(selection.Distilled, "helps", property(lambda _: True))
    store, show, shown = published("din")[0], text_of_epoch, 0
    whole = _run(walk_csv, tmp_path / "whole", "--teacher", store)
    assert whole.exit_code == 0, whole.output
    epochs = len(re.findall("^epoch", whole.stdout, re.MULTILINE))

    def break_late(epoch: Any) -> str:
        nonlocal shown
        shown += 1
        assert shown < epochs  # in the last epoch that is taught
        return show(epoch)

    with monkeypatch.context() as patch:
        patch.setattr(train, "text_of_epoch", break_late)
        assert isinstance(_run(walk_csv, tmp_path / "broken", "--teacher", store).exception, AssertionError)
    assert list((tmp_path / "broken").glob(".training-*.taught"))
    again = _run(walk_csv, tmp_path / "broken", "--teacher", store)
    assert again.exit_code == 0, again.output
    assert load(tmp_path / "broken").version == load(tmp_path / "whole").version
    assert not list((tmp_path / "broken").glob(".training-*"))


def test_what_cannot_teach_is_one_line(
    walk_csv: Path, published: Callable[[str], tuple[Path, str]], tmp_path: Path
) -> None:
    store, _ = published("din")
    shorter = tmp_path / "log.csv"
    shorter.write_text("".join(walk_csv.read_text().splitlines(keepends=True)[:-5]))
    lonely = tmp_path / "lonely"
    ranker = load_ranker(str(store))
    shutil.copytree(store / ranker.version, lonely / ranker.version)
    cases: list[tuple[str, int, Any]] = [
        ("has learned another log", 2, _run(shorter, tmp_path, "--teacher", store)),
        (
            "trained with protocol 'time', and this would be with 'leave-one-out'",
            2,
            _run(walk_csv, tmp_path, "--teacher", store, "--protocol", "leave-one-out"),
        ),
        (
            "knows other items",
            2,
            _run(walk_csv, tmp_path, "--teacher", store, settings=FAST + "max_items = 9\n"),
        ),
        ("is not beside it", 1, _run(walk_csv, tmp_path, "--teacher", lonely / ranker.version)),
        (
            "with `python -m offline.train --model din`",
            1,
            _run(walk_csv, tmp_path, "--teacher", tmp_path / "nowhere"),
        ),
        ("means nothing to the trials", 2, _run(walk_csv, tmp_path, "--teacher", store, "--tune", "1")),
        ("means nothing with --model mf", 2, _run(walk_csv, tmp_path, "--teacher", store, "--model", "mf")),
    ]
    for message, status, found in cases:
        assert found.exit_code == status, found.output
        assert message in found.output and "Traceback" not in found.output
        assert len(found.output.split("Error: ")[1].splitlines()) == 1
    going_on = CliRunner().invoke(
        train.main, ["--data-path", str(walk_csv), "--continue-from", str(tmp_path), "--teacher", str(store)]
    )
    assert going_on.exit_code == 2 and "--teacher means nothing with --continue-from" in going_on.output
    assert not (tmp_path / "current").exists()


def test_lessons_of_a_log_are_few_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lessons, "MAX_LESSONS", 7)
    found = lessons_of(
        loaded(Partisan()), by_chance(), VOCABULARY, WindowSettings(), TrainSettings(teacher_candidates=3)
    )
    assert found.share.shape == (7, 4)
