"""What stands beside a positive, and what a step does with batches, a schedule and a lower precision."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from models.errors import SettingsError
from models.ids.log_vocabulary import vocabulary_of_log
from models.ids.vocabulary import Vocabulary
from models.log.behaviour_log import read_behaviour_log
from models.rankers.kinds import make_ranker
from models.rankers.settings import KINDS
from offline.rankers.learner import Learner
from offline.rankers.questions import Drawer, Questions, others_of_batch
from offline.rankers.samples import Asked, Samples, material_of
from offline.rankers.settings import Draws, RankerTrainSettings
from tests.offline.tiny_ranker import TINY

TOY = RankerTrainSettings(batch_size=64, negatives=2, unknown_share=0.0, auxiliary_weight=0.0)


@pytest.fixture(scope="module")
def ground(walk_csv: Path) -> tuple[Samples, Vocabulary]:
    log = read_behaviour_log(walk_csv)
    vocabulary = vocabulary_of_log(log)
    settings = replace(TINY, kind="dsin")  # pasts that every kind can read
    samples = material_of(log, vocabulary, settings).samples(np.ones(len(log), np.bool_), TOY)
    return samples.take(np.arange(0, len(samples), 8)), vocabulary


def _learner(
    ground: tuple[Samples, Vocabulary], kind: str = "din", **settings: Any
) -> tuple[Learner, Samples]:
    samples, vocabulary = ground
    torch.manual_seed(2)
    ranker = make_ranker(vocabulary, replace(TINY, kind=kind))  # type: ignore[arg-type]
    return Learner(ranker, samples, vocabulary, replace(TOY, **settings)), samples


def test_others_of_a_batch_are_never_the_same_row() -> None:
    found = others_of_batch(5, 40, np.random.default_rng(0))
    assert found.shape == (5, 40)
    assert all({*row.tolist()} == set(range(5)) - {at} for at, row in enumerate(found))
    assert (others_of_batch(1, 3, np.random.default_rng(0)) == 0).all()


def test_beside_a_positive_stand_others_of_the_batch_drawn_ones_and_the_hardest_of_a_pool(
    ground: tuple[Samples, Vocabulary],
) -> None:
    samples, vocabulary = ground
    drawer, draws = Drawer(samples, vocabulary, TOY), Draws(in_batch=2, drawn=3, hard=2, pool=6)
    questions = Questions(samples, TINY, drawer, draws, 1.0, torch.device("cpu"))
    some = np.arange(30)
    whole = questions.asked(some, np.random.default_rng(1))
    assert whole.item.shape == (30, 1 + 2 + 3 + 12)
    targets = samples.histories.item[samples.target[some]]
    assert np.isin(whole.item[:, 1:3].numpy(), targets).all()
    known = np.append([0, 1], vocabulary.item_categories)
    np.testing.assert_array_equal(whole.category.numpy(), known[whole.item.numpy()])

    def by_number(asked: Asked) -> torch.Tensor:
        return asked.item.float()

    found = questions.hardest(whole, by_number)
    assert found.item.shape == found.weight.shape == found.label.shape == (30, 8)
    torch.testing.assert_close(found.item[:, :6], whole.item[:, :6])
    for row in range(30):
        pool = [i for i in whole.item[row, 6:].tolist() if i != targets[row]]
        assert sorted(found.item[row, 6:].tolist()) == sorted(pool)[-2:]
    assert found.label[:, 1:].sum() == 0
    assert ((found.weight == 0) == (found.item == found.item[:, :1]))[:, 1:].all()


def test_shares_say_how_many_of_each() -> None:
    settings = RankerTrainSettings(in_batch_share=0.25, hard_share=0.5, hard_pool=5)
    assert settings.draws(8) == Draws(in_batch=2, drawn=2, hard=4, pool=5)
    with pytest.raises(SettingsError, match=r"in_batch_share is 0.6 and hard_share 0.5"):
        RankerTrainSettings(in_batch_share=0.6, hard_share=0.5)
    with pytest.raises(SettingsError, match='negatives_from is "rows"'):
        RankerTrainSettings(hard_share=0.5, negatives_from="rows", positives=(4,))


def test_hard_negatives_are_those_that_the_ranker_scores_highest(
    ground: tuple[Samples, Vocabulary],
) -> None:
    learner, samples = _learner(ground, negatives=1, hard_share=1.0, hard_pool=20)
    easy, _ = _learner(ground, negatives=1)

    def scores_of_negatives(of: Learner) -> torch.Tensor:
        asked = of._asked(np.arange(len(samples)))
        assert of.ranker.training and asked.item.shape[1] == 2
        with torch.no_grad():
            return of.ranker.eval()(asked.events, asked.item, asked.category)[:, 1]  # type: ignore[no-any-return]

    hard, drawn = scores_of_negatives(learner), scores_of_negatives(easy)
    assert hard.mean() > drawn.mean() + drawn.std()  # of 20 the highest is 1.9 deviations up


@pytest.mark.parametrize("kind", KINDS)
def test_accumulated_batches_are_one_larger_batch(
    ground: tuple[Samples, Vocabulary], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for Dice, whose statistics are of a batch: here they are those of all so far."""
    fixed = {"positives": (1,), "negatives_from": "drawn", "regularisation": 0.1, "focal_gamma": 1.0}
    found = []
    for batches in ([np.arange(0, 50), np.arange(50, 90)], [np.arange(0, 90)]):
        learner, _ = _learner(ground, kind, **fixed)
        learner.ranker.eval()
        asked = [_without_draws(learner, some) for some in batches]
        monkeypatch.setattr(learner, "_asked", _given(asked))
        loss = learner.step(batches)
        found.append((loss, list(learner.ranker.parameters())))
    torch.testing.assert_close(*found, atol=1e-5, rtol=1e-5)


def _without_draws(learner: Learner, some: np.ndarray) -> Asked:
    asked = learner.questions.asked(some, np.random.default_rng(0))
    item = torch.cat([asked.item[:, :1], (asked.item[:, :1] + 5) % 40 + 2], dim=1)
    return Asked(asked.events, item, torch.ones_like(item), asked.label[:, :2], torch.ones(len(some), 2))


def _given(asked: list[Asked]) -> Callable[[np.ndarray], Asked]:
    left = iter(asked)
    return lambda _: next(left)


def test_learning_rate_rises_and_falls_over_all_passes(ground: tuple[Samples, Vocabulary]) -> None:
    learner, samples = _learner(
        ground, lr=0.02, epochs=4, lr_decay="linear", warmup_share=0.25, accumulate=2, batch_size=20
    )
    steps = math.ceil(math.ceil(len(samples) / 20) / 2)
    rates = [learner.learning_rate()]
    for _ in range(4):
        learner.epoch()
        rates.append(learner.learning_rate())
    assert rates[0] == pytest.approx(0.02 / steps)
    assert rates[1:] == pytest.approx([0.02, 0.02 * 0.7, 0.02 * 0.4, 0.02 * 0.1])
    fixed, _ = _learner(ground)
    fixed.epoch()
    assert fixed.learning_rate() == TOY.lr


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", KINDS)
def test_lower_precision_comes_near(ground: tuple[Samples, Vocabulary], kind: str, precision: str) -> None:
    exact, _ = _learner(ground, kind, auxiliary_weight=1.0, lr=1e-2)
    near, _ = _learner(ground, kind, auxiliary_weight=1.0, lr=1e-2, precision=precision)
    before = [each.detach().clone() for each in near.ranker.parameters()]
    losses = np.array([(exact.epoch(), near.epoch()) for _ in range(3)])
    np.testing.assert_allclose(losses[:, 1], losses[:, 0], rtol=0.02)
    assert losses[0, 0] != losses[0, 1]
    after = list(near.ranker.parameters())
    assert all(each.dtype == torch.float32 for each in after)
    assert all((one != other).any() for one, other in zip(before, after, strict=True))
