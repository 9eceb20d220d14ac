"""Several rankers as one artifact: its weights are the best there are, and it is served as any ranker."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from scipy.special import expit
from sklearn.metrics import log_loss

from models.artifact.artifact import publish
from models.errors import ArtifactError, SettingsError
from models.ranker import Candidates
from models.rankers.artifact import save_ranker
from models.rankers.ensemble import EnsembleSettings
from models.rankers.kinds import make_ranker
from models.rankers.load import load_ranker
from models.rankers.settings import RankerSettings
from models.windows.histories import Histories
from offline import ensemble, evaluate
from offline.rankers.measures import Scored
from offline.rankers.weights import weights_of
from tests.models.made_users import made_histories


def _made(members: int = 3, rows: int = 2_000) -> tuple[np.ndarray, Scored]:
    """Return scores of which the first two each know half of the truth, and the last one nothing."""
    random = np.random.default_rng(3)
    halves = random.normal(size=(2, rows))
    label = (random.random(rows) < expit(1.2 * halves[0] + 0.6 * halves[1] - 1)).astype(float)
    scores = np.vstack([halves, random.normal(size=(members - 2, rows))])
    return scores, Scored(
        scores[0], label, random.random(rows) + 0.5, np.zeros(rows, int), np.zeros(rows, int)
    )


def _loss(weights: tuple[float, ...], bias: float, scores: np.ndarray, scored: Scored) -> float:
    told = expit(np.array(weights) @ scores + bias)
    return float(log_loss(scored.label, told, sample_weight=scored.weight))


def test_shares_are_the_best_that_there_are() -> None:
    scores, scored = _made()
    weights, bias = weights_of("weighted", scores, scored)
    assert sum(weights) == pytest.approx(1) and min(weights) >= 0 and bias == 0
    best = min(
        _loss((one, other, 1 - one - other), 0, scores, scored)
        for one in np.linspace(0, 1, 11)
        for other in np.linspace(0, 1 - one, 11)
    )
    assert _loss(weights, 0, scores, scored) <= best + 1e-6
    assert weights[0] > weights[1] > weights[2]


def test_stacked_weights_are_the_truths_and_the_mean_is_the_mean() -> None:
    scores, scored = _made()
    weights, bias = weights_of("stacked", scores, scored)
    assert (*weights, bias) == pytest.approx((1.2, 0.6, 0, -1), abs=0.2)
    for at in range(4):  # nothing near it is better
        for step in (-1e-2, 1e-2):
            moved = np.array([*weights, bias])
            moved[at] += step
            near = _loss(tuple(moved[:3]), moved[3], scores, scored)
            assert near >= _loss(weights, bias, scores, scored)
    assert weights_of("mean", scores, scored) == ((1 / 3,) * 3, 0.0)


def test_an_ensemble_reads_whatever_a_member_does() -> None:
    din = RankerSettings(max_events=50, horizon_ms=9)
    dsin = RankerSettings(kind="dsin", max_events=20, sessions=4, gap_ms=7, horizon_ms=8)
    alone = EnsembleSettings("mean", (din, replace(din, kind="dien", max_events=60)), (0.5, 0.5)).reads
    assert (alone.kind, alone.max_events, alone.horizon_ms) == ("din", 60, 9)
    both = EnsembleSettings("mean", (din, dsin), (0.5, 0.5)).reads
    assert (both.kind, both.sessions, both.gap_ms, both.horizon_ms) == ("dsin", 50, 7, 9)
    with pytest.raises(SettingsError, match="two members at least"):
        EnsembleSettings("mean", (din,), (1.0,))
    with pytest.raises(SettingsError, match="must be finite"):
        EnsembleSettings("mean", (din, dsin), (np.nan, 1.0))


@pytest.fixture(scope="module")
def stores(
    published: Callable[[str], tuple[Path, str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Give the stores of rankers din and dsin, of one that was trained otherwise, and a folder for more."""
    folder = tmp_path_factory.mktemp("ensembles")
    like, _ = published("din")
    loaded = load_ranker(str(like))
    training = {**loaded.training, "negatives": 7}
    other = make_ranker(loaded.vocabulary, loaded.settings)
    publish(folder / "other", save_ranker(folder / "other", other, loaded.vocabulary, {}, training).version)
    held_out = str(training["held_out_version"])
    shutil.copytree(like / held_out, folder / "other" / held_out)
    return {"din": like, "dsin": published("dsin")[0], "other": folder / "other", "folder": folder}


def _run(
    walk_csv: Path, stores: dict[str, Path], *names: str, how: str = "weighted", into: str = "made"
) -> str:
    arguments = ["--data-path", walk_csv, "--how", how, "--save-dir", stores["folder"] / into]
    arguments += [each for name in names for each in ("--ranker", stores.get(name, name))]
    return str(CliRunner().invoke(ensemble.main, list(map(str, arguments))).output)


@pytest.mark.parametrize("how", ["mean", "stacked"])
def test_command_publishes_one_ranker_of_two(walk_csv: Path, stores: dict[str, Path], how: str) -> None:
    output = _run(walk_csv, stores, "din", "dsin", how=how, into=how)
    made = load_ranker(str(stores["folder"] / how))
    assert f"version {made.version}" in output and f"{how}, bias" in output
    histories = made_histories((0, 1, 7, 30), 0)
    histories = _known(histories, made.vocabulary.item_count)
    item = np.tile(made.vocabulary.item_indices(["item-3é", "item-7é", "nobody's"]), 4)
    asked = Candidates(item, made.item_categories[item], np.arange(5) * 3)
    now_ms = histories.newest_ms() + 5_000
    found = made.ranker.rank(histories, asked, now_ms, explain=True)
    members = [
        load_ranker(str(stores[name])).ranker.rank(histories, asked, now_ms, explain=True)
        for name in ("din", "dsin")
    ]
    line = next(line for line in output.splitlines() if line.startswith(how))
    bias = float(line.split()[2].rstrip(","))
    weights = [
        float(line.split("weight ")[1].split(",")[0]) for line in output.splitlines() if "weight" in line
    ]
    for place in range(len(item)):
        expected = bias + sum(
            weight * float(each.score[place]) for weight, each in zip(weights, members, strict=True)
        )
        assert found.score[place] == pytest.approx(expected, abs=6e-3)  # printed to 3 places
    shares = np.abs(weights) / np.abs(weights).sum()
    for user in range(4):
        counted = sum(s * each.attention[user] for s, each in zip(shares, members, strict=True))
        np.testing.assert_allclose(found.attention[user], counted, atol=1e-2)
    shown = CliRunner().invoke(
        evaluate.main, ["--artifact", str(stores["folder"] / how), "--data-path", str(walk_csv)]
    )
    assert shown.exit_code == 0 and made.version not in shown.output.splitlines()[0]


def _known(histories: Histories, items: int) -> Histories:
    """Return made-up histories of items that there are."""
    return replace(histories, item=2 + histories.item % (items - 2), category=2 + histories.category % 3)


def test_a_damaged_member_is_refused(walk_csv: Path, stores: dict[str, Path]) -> None:
    _run(walk_csv, stores, "din", "dsin", how="mean", into="broken")
    store = stores["folder"] / "broken"
    version = load_ranker(str(store)).version
    graph = store / version / "member1-user.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"member1-user.onnx is damaged"):
        load_ranker(str(store))


def test_what_does_not_go_together_is_one_line(
    walk_csv: Path, stores: dict[str, Path], tmp_path: Path
) -> None:
    assert "needs two rankers" in _run(walk_csv, stores, "din")
    found = _run(walk_csv, stores, "din", "other")
    assert "was trained with negatives 7" in found and "train them alike" in found.replace("\n", " ")
    shorter = tmp_path / "log.csv"
    shorter.write_text("".join(walk_csv.read_text().splitlines(keepends=True)[:-5]))
    assert "has learned another log" in _run(shorter, stores, "din", "dsin")
    assert "there is no artifact" in _run(walk_csv, stores, "din", "nowhere")
    assert not (stores["folder"] / "made" / "current").exists()
