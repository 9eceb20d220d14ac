"""What every ranker must do, and that each gives what its paper says, one number after the other."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.adopted.session import Session
from models.artifact.artifact import load
from models.artifact.files import CHECKSUMS, CONFIG, to_json
from models.artifact.writing import write_version
from models.errors import ArtifactError, SettingsError
from models.ids.vocabulary_file import UNKNOWN
from models.model_files import CANDIDATE_GRAPH, USER_GRAPH
from models.quantised import dequantised, quantised
from models.ranker import Candidates, Scores
from models.rankers.artifact import save_ranker
from models.rankers.base import RankerModule
from models.rankers.columns import event_rows
from models.rankers.compiled_candidates import LEAST_OF_A_THREAD
from models.rankers.features import feature_rows
from models.rankers.kinds import make_ranker
from models.rankers.layers import Events, Features
from models.rankers.load import LoadedRanker, load_ranker
from models.rankers.onnx_ranker import OnnxRanker
from models.rankers.settings import RankerSettings
from models.windows.histories import Histories
from tests import slow_features, slow_rankers
from tests.models.made_users import CATEGORIES, ITEMS, VOCABULARY, made_histories

SMALL = RankerSettings(
    max_events=10,
    sessions=2,
    item_dimension=8,
    category_dimension=8,
    heads=2,
    attention_units=5,
    units=(7, 6),
    features=False,
)
#: Events of each user: none, one, two, as many as are read, and more.
LENGTHS = (0, 1, 2, 10, 25)
CANDIDATES = 4
TOLERANCE = 1e-5

#: Every ranker, in every form that it has.
FORMS = {
    "din": SMALL,
    "din softmax": replace(SMALL, softmax=True),
    "din dot": replace(SMALL, attention="dot"),
    "din bilinear": replace(SMALL, attention="bilinear", softmax=True),
    "din position": replace(SMALL, attention="position"),
    "din multi-head": replace(SMALL, attention="multi-head", softmax=True),
    "dsin": replace(SMALL, kind="dsin"),
    "dien": replace(SMALL, kind="dien"),
    "dien aigru": replace(SMALL, kind="dien", evolution="aigru"),
    "dien agru": replace(SMALL, kind="dien", evolution="agru"),
    "din features": replace(SMALL, features=True, utc_offset_h=5.5),
    "din dot features": replace(SMALL, attention="dot", features=True),
    "dsin features": replace(SMALL, kind="dsin", features=True),
    "dien features": replace(SMALL, kind="dien", features=True),
}


def _lively(settings: RankerSettings) -> RankerModule:
    """Return a ranker in which nothing is near 0, so that nothing can be left out unnoticed."""
    torch.manual_seed(3)
    ranker = make_ranker(VOCABULARY, settings)
    with torch.no_grad():
        for name, values in ranker.state_dict().items():
            if name.startswith("vectors"):
                values[1:].normal_(0, 0.7)
            elif name.endswith(("variance", "spread")):
                values.uniform_(0.3, 2)
            else:
                values.normal_(0, 0.4)
    return ranker.eval()


def _histories(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> Histories:
    return made_histories(lengths, seed)


def _candidates(users: int = len(LENGTHS), seed: int = 1) -> Candidates:
    random = np.random.default_rng(seed)
    item = random.integers(1, VOCABULARY.item_count, users * CANDIDATES)
    category = VOCABULARY.categories_of(item, random.integers(1, CATEGORIES + 2, len(item)))
    return Candidates(item, category, np.arange(users + 1) * CANDIDATES)


def _now_ms(histories: Histories) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return histories.newest_ms() + 12_345


@pytest.fixture(scope="module", params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def ranker(form: str) -> RankerModule:
    return _lively(FORMS[form])


@pytest.fixture(scope="module")
def folder(form: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranker")


@pytest.fixture(scope="module")
def loaded(ranker: RankerModule, folder: Path) -> LoadedRanker:
    return save_ranker(folder, ranker, VOCABULARY, {}, {})


Asked = tuple[torch.Tensor, torch.Tensor, Features | None]


def _batch(ranker: RankerModule, histories: Histories) -> tuple[Events, Asked]:
    now_ms, settings = _now_ms(histories), ranker.settings
    rows, candidates = event_rows(histories, now_ms, settings), _candidates(len(histories))
    item, category = (each.reshape(-1, CANDIDATES) for each in (candidates.item, candidates.category))
    features = None
    if settings.features:
        numbers = feature_rows(histories, now_ms, item, category, settings)
        features = Features(*map(torch.from_numpy, numbers.columns().values()))
    events = Events(*map(torch.from_numpy, rows.columns().values()))
    return events, (torch.from_numpy(item), torch.from_numpy(category), features)


def _ranked(loaded: LoadedRanker, histories: Histories, candidates: Candidates) -> Scores:
    return loaded.ranker.rank(histories, candidates, _now_ms(histories), explain=True)


def test_scores_and_weights_are_those_of_the_paper(ranker: RankerModule, loaded: LoadedRanker) -> None:
    histories, candidates = _histories(), _candidates()
    found = _ranked(loaded, histories, candidates)
    weights = slow_rankers.weights_of({name: each.numpy() for name, each in ranker.state_dict().items()})
    for user in range(len(histories)):
        for place in range(CANDIDATES):
            at = user * CANDIDATES + place
            candidate = int(candidates.item[at]), int(candidates.category[at])
            score, counted = _slow(ranker.settings, weights, histories.take(np.array([user])), candidate)
            assert found.score[at] == pytest.approx(score, abs=TOLERANCE, rel=TOLERANCE)
            np.testing.assert_allclose(found.attention[user][place], counted, atol=TOLERANCE)


def test_candidates_in_parts_of_several_threads_are_scored_the_same(
    loaded: LoadedRanker, folder: Path
) -> None:
    histories, random, each = _histories(), np.random.default_rng(4), 3 * LEAST_OF_A_THREAD + 1
    item = random.integers(1, VOCABULARY.item_count, len(LENGTHS) * each)
    category = VOCABULARY.categories_of(item, random.integers(1, CATEGORIES + 2, len(item)))
    many = Candidates(item, category, np.arange(len(LENGTHS) + 1) * each)
    alone, together = (
        _ranked(ranker, histories, many)
        for ranker in (loaded, load_ranker(str(folder / loaded.version), threads=3))
    )
    np.testing.assert_allclose(together.score, alone.score, atol=TOLERANCE, rtol=TOLERANCE)
    for ours, theirs in zip(together.attention, alone.attention, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)


def _slow(
    settings: RankerSettings,
    weights: slow_rankers.Weights,
    history: Histories,
    candidate: tuple[int, int],
) -> tuple[float, list[float]]:
    """Return a user's score of a candidate, and what each event of the whole history counted."""
    now_ms = int(_now_ms(history)[0])
    events = [
        (int(item), int(category), int(behaviour), slow_features.age_bucket(now_ms - int(time_ms)))
        for item, category, behaviour, time_ms in zip(
            history.item, history.category, history.behaviour, history.time_ms, strict=True
        )
    ]
    features = _slow_features(settings, history, now_ms, candidate) if settings.features else []
    if settings.kind == "dsin":
        return _slow_dsin(settings, weights, events, history.time_ms.tolist(), candidate, features)
    recent = events[-settings.max_events :]
    if settings.kind == "dien":
        score, counted = slow_rankers.dien(weights, recent, candidate, settings.evolution, features)
    else:
        form = settings.attention, settings.softmax, settings.heads
        score, counted = slow_rankers.din(weights, recent, candidate, *form, features)
    return score, [0.0] * (len(events) - len(recent)) + counted


def _slow_features(
    settings: RankerSettings, history: Histories, now_ms: int, candidate: tuple[int, int]
) -> list[float]:
    columns = history.item, history.category, history.behaviour, history.time_ms
    events = list(zip(*(column.tolist() for column in columns), strict=True))[-settings.max_events :]
    of_user = slow_features.user_features(events, now_ms, settings.gap_ms, settings.utc_offset_h)
    return of_user + slow_features.candidate_features(events, now_ms, candidate)


def _slow_dsin(
    settings: RankerSettings,
    weights: slow_rankers.Weights,
    events: Sequence[tuple[int, int, int, int]],
    times_ms: Sequence[int],
    candidate: tuple[int, int],
    features: Sequence[float],
) -> tuple[float, list[float]]:
    sessions: list[list[int]] = []
    for place, time_ms in enumerate(times_ms):
        if not sessions or time_ms - times_ms[place - 1] > settings.gap_ms:
            sessions.append([])
        sessions[-1].append(place)
    length = settings.max_events // settings.sessions
    read = [session[-length:] for session in sessions[-settings.sessions :]]
    score, shares = slow_rankers.dsin(
        weights,
        [[events[place] for place in session] for session in read],
        settings.sessions,
        candidate,
        settings.heads,
        features,
    )
    counted = [0.0] * len(events)
    for place, share in zip([place for session in read for place in session], shares, strict=True):
        counted[place] = share
    return score, counted


def test_who_is_asked_about_beside_changes_nothing(loaded: LoadedRanker) -> None:
    histories, candidates = _histories(), _candidates()
    together = _ranked(loaded, histories, candidates)
    for user in range(len(histories)):
        own = slice(user * CANDIDATES, (user + 1) * CANDIDATES)
        alone = Candidates(candidates.item[own], candidates.category[own], np.array([0, CANDIDATES]))
        found = _ranked(loaded, histories.take(np.array([user])), alone)
        np.testing.assert_allclose(found.score, together.score[own], atol=TOLERANCE)
        np.testing.assert_allclose(found.attention[0], together.attention[user], atol=TOLERANCE)


def test_graphs_give_what_machine_code_gives(loaded: LoadedRanker, folder: Path) -> None:
    of_user, of_candidates = (
        Session(folder / loaded.version / name, "cpu", 1) for name in (USER_GRAPH, CANDIDATE_GRAPH)
    )
    histories, candidates = _histories(), _candidates()
    by_graph = OnnxRanker(of_user, of_candidates, loaded.settings)
    found = by_graph.rank(histories, candidates, _now_ms(histories), explain=True)
    served = _ranked(loaded, histories, candidates)
    np.testing.assert_allclose(found.score, served.score, atol=TOLERANCE, rtol=TOLERANCE)
    for one, other in zip(found.attention, served.attention, strict=True):
        np.testing.assert_allclose(one, other, atol=TOLERANCE)


def test_rows_as_bytes_are_scored_as_what_the_bytes_stand_for(
    ranker: RankerModule, loaded: LoadedRanker, tmp_path: Path
) -> None:
    histories, candidates = _histories(), _candidates()
    small, plain = _lively(ranker.settings), _lively(ranker.settings)
    small.vectors.compress()
    with torch.no_grad():
        for table in (plain.vectors.item, plain.vectors.category):
            table.weight.copy_(torch.from_numpy(dequantised(*quantised(table.weight.numpy()))))
    served, expected = (save_ranker(tmp_path, each, VOCABULARY, {}, {}) for each in (small, plain))
    found, wanted = (_ranked(each, histories, candidates) for each in (served, expected))
    np.testing.assert_allclose(found.score, wanted.score, atol=TOLERANCE, rtol=TOLERANCE)
    for one, other in zip(found.attention, wanted.attention, strict=True):
        np.testing.assert_allclose(one, other, atol=TOLERANCE)
    of_user, of_candidates = (
        Session(served.directory / name, "cpu", 1) for name in (USER_GRAPH, CANDIDATE_GRAPH)
    )
    by_graph = OnnxRanker(of_user, of_candidates, served.settings).rank(
        histories, candidates, _now_ms(histories)
    )
    np.testing.assert_allclose(by_graph.score, wanted.score, atol=TOLERANCE, rtol=TOLERANCE)
    whole = _ranked(loaded, histories, candidates).score
    assert np.abs(found.score - whole).max() > TOLERANCE  # bytes are not what they were made of


def test_other_candidates_of_a_user_change_nothing(loaded: LoadedRanker) -> None:
    histories, candidates = _histories((7,)), _candidates(1)
    together = _ranked(loaded, histories, candidates).score
    for place in range(CANDIDATES):
        one = Candidates(candidates.item[[place]], candidates.category[[place]], np.array([0, 1]))
        assert _ranked(loaded, histories, one).score[0] == pytest.approx(together[place], abs=TOLERANCE)


def test_users_may_have_different_numbers_of_candidates_and_none(loaded: LoadedRanker) -> None:
    histories, candidates = _histories((3, 0, 12)), _candidates(3)
    whole = _ranked(loaded, histories, candidates).score
    uneven = Candidates(candidates.item[:9], candidates.category[:9], np.array([0, 4, 4, 9]))
    again = np.array([0, 1, 2, 3, 8, 9, 10, 11])
    picked = Candidates(candidates.item[again], candidates.category[again], np.array([0, 4, 4, 8]))
    found = _ranked(loaded, histories, picked)
    np.testing.assert_allclose(found.score, whole[again], atol=TOLERANCE)
    assert [each.shape for each in found.attention] == [(4, 3), (0, 0), (4, 12)]
    assert _ranked(loaded, histories, uneven).score.shape == (9,)


def test_padding_changes_nothing_the_loss_included(ranker: RankerModule) -> None:
    events, asked = _batch(ranker, _histories((1, 4, 6)))
    wider = Events(*(_wider(column, ranker.settings) for column in events))
    losses = []
    for each in (events, wider):
        copy = _lively(ranker.settings).train()
        loss = copy(each, *asked).square().mean() + (_auxiliary(copy, each) or 0)
        loss.backward()
        slopes = [value.grad.to_dense() for value in copy.parameters() if value.grad is not None]
        losses.append((loss.detach(), [value.clone() for value in copy.buffers()], slopes))
    torch.testing.assert_close(*losses, atol=TOLERANCE, rtol=1e-4)


def _wider(column: torch.Tensor, settings: RankerSettings) -> torch.Tensor:
    """Return a column with three places more that hold nothing, of DSIN in each session."""
    if settings.kind != "dsin":
        return torch.nn.functional.pad(column, (0, 3))
    sessions = column.reshape(len(column), settings.sessions, -1)
    return torch.nn.functional.pad(sessions, (0, 3)).flatten(1)


def _auxiliary(ranker: RankerModule, events: Events) -> torch.Tensor | None:
    drawn = torch.where(events.item > 0, 2 + (events.item * 7) % ITEMS, 0)
    return ranker.auxiliary_loss(events, drawn, 2 + drawn % CATEGORIES)


def test_every_parameter_gets_a_gradient(ranker: RankerModule) -> None:
    copy = _lively(ranker.settings).train()
    events, asked = _batch(copy, _histories())
    loss = copy(events, *asked).square().mean() + (_auxiliary(copy, events) or 0)
    loss.backward()
    without = [
        name
        for name, value in copy.named_parameters()
        if value.grad is None or not value.grad.to_dense().abs().sum() > 0
    ]
    assert not without


def test_an_item_that_training_never_saw_is_scored_by_its_category(loaded: LoadedRanker) -> None:
    item = np.array([UNKNOWN, UNKNOWN])
    found = _ranked(loaded, _histories((5,)), Candidates(item, np.array([2, 3]), np.array([0, 2]))).score
    assert np.isfinite(found).all()
    assert found[0] != found[1]


def test_behaviour_and_age_of_events_are_known(loaded: LoadedRanker) -> None:
    histories, candidates = _histories((5,)), _candidates(1)
    before = _ranked(loaded, histories, candidates).score
    other = replace(histories, behaviour=histories.behaviour % 4 + 1)
    assert not np.allclose(_ranked(loaded, other, candidates).score, before)
    later = loaded.ranker.rank(histories, candidates, _now_ms(histories) + 10**9).score
    assert not np.allclose(later, before)


def test_events_beyond_the_horizon_are_not_read(ranker: RankerModule, loaded: LoadedRanker) -> None:
    histories, candidates = _histories((4,)), _candidates(1)
    histories.time_ms[:2] -= ranker.settings.horizon_ms + 1
    newest = replace(
        histories,
        **{name: getattr(histories, name)[2:] for name in ("item", "category", "behaviour", "time_ms")},
        starts=np.array([0, 2]),
    )
    found, alone = (_ranked(loaded, each, candidates) for each in (histories, newest))
    np.testing.assert_array_equal(found.score, alone.score)
    assert not found.attention[0][:, :2].any()


def test_what_is_loaded_needs_no_torch(loaded: LoadedRanker) -> None:
    code = "import sys, models.rankers.load; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_index_that_the_vocabulary_does_not_have_is_an_error(loaded: LoadedRanker) -> None:
    wrong = Candidates(np.array([VOCABULARY.item_count]), np.array([2]), np.array([0, 1]))
    with pytest.raises(RuntimeError):
        _ranked(loaded, _histories((3,)), wrong)


def test_auxiliary_loss_of_dien_is_the_papers() -> None:
    ranker = _lively(FORMS["dien"])
    histories = _histories((1, 2, 6))
    events, _ = _batch(ranker, histories)
    drawn = torch.where(events.item > 0, 2 + (events.item * 7) % ITEMS, 0)
    found = ranker.auxiliary_loss(events, drawn, 2 + drawn % CATEGORIES)
    rows = [torch.stack(events, dim=-1)[user, :count].tolist() for user, count in enumerate((1, 2, 6))]
    others = [[(item, 2 + item % CATEGORIES) for item in row.tolist()] for row in drawn]
    weights = slow_rankers.weights_of({name: each.numpy() for name, each in ranker.state_dict().items()})
    assert found is not None
    assert found.item() == pytest.approx(slow_rankers.auxiliary_loss(weights, rows, others), abs=TOLERANCE)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    save_ranker(folder, _lively(SMALL), VOCABULARY, {}, {})
    return folder


def test_a_damaged_ranker_is_refused_and_a_ranker_is_no_encoder(store: Path) -> None:
    version = next(path for path in store.iterdir() if not path.name.startswith("."))
    with pytest.raises(ArtifactError, match="ranker"):
        load(version)
    graph = version / "candidates.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"candidates.onnx is damaged"):
        load_ranker(str(version))


def test_a_ranker_that_was_saved_before_there_were_features_has_none(tmp_path: Path) -> None:
    saved = save_ranker(tmp_path, _lively(SMALL), VOCABULARY, {}, {})
    contents = {
        path.name: path.read_bytes()
        for path in (tmp_path / saved.version).iterdir()
        if path.name != CHECKSUMS
    }
    config = json.loads(contents[CONFIG])
    del config["ranker"]["features"], config["ranker"]["utc_offset_h"]
    old = load_ranker(str(tmp_path / write_version(tmp_path, {**contents, CONFIG: to_json(config)})))
    assert (old.settings, RankerSettings().features) == (SMALL, True)
    asked = _histories(), _candidates()
    np.testing.assert_array_equal(_ranked(old, *asked).score, _ranked(saved, *asked).score)


def test_what_is_no_ranker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"there is no artifact at .*: make one with .* --model din`"):
        load_ranker(str(tmp_path / "nowhere"))


def test_a_ranker_that_gives_no_numbers_is_not_published(tmp_path: Path) -> None:
    broken = _lively(SMALL)
    with torch.no_grad():
        broken.vectors.item.weight[5:] = torch.nan
    with pytest.raises(ArtifactError, match="not finite"):
        save_ranker(tmp_path, broken, VOCABULARY, {}, {})


@pytest.mark.parametrize(
    "wrong",
    [{"heads": 3}, {"kind": "dsin", "sessions": 3}, {"units": ()}],
    ids=["heads", "sessions", "units"],
)
def test_shapes_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    make: Callable[..., RankerSettings] = replace
    with pytest.raises(SettingsError):
        make(SMALL, **wrong)
