from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from models.log.behaviour_log import HOUR_MS, SECOND_MS, BehaviourLog, read_behaviour_log
from offline.sample import main
from offline.synthetic import behaviour
from offline.synthetic.behaviour import SampleSettings, generate
from offline.synthetic.file import write_sample

SETTINGS = SampleSettings(users=300, rows=30_000, seed=7)
DAY_MS = 86_400_000
FIRST_MS = 1_416_268_800_000  # 2014-11-18 00:00 UTC


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> BehaviourLog:
    path = tmp_path_factory.mktemp("sample") / "behaviour.csv"
    write_sample(SETTINGS, path, to_second=True)
    return read_behaviour_log(path)


def test_users_and_rows_are_as_many_as_asked(log: BehaviourLog) -> None:
    assert (len(log), len(log.user.values)) == (30_000, 300)
    assert 500 <= len(log.item.values) <= SETTINGS.items == 600
    assert len(log.category.values) == SETTINGS.categories == 6


@pytest.mark.parametrize(("users", "rows"), [(1, 1), (1, 50), (7, 7), (50, 3_000)])
def test_even_a_tiny_log_has_exactly_what_was_asked(users: int, rows: int) -> None:
    (sample,) = generate(SampleSettings(users=users, rows=rows))
    assert (len(sample.time_s), len(np.unique(sample.user_id))) == (rows, users)


def test_a_long_log_is_made_in_blocks_of_other_users_and_the_same_items(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(behaviour, "BLOCK_ROWS", 3_000)
    settings = SampleSettings(users=50, rows=10_001)
    blocks = list(generate(settings))
    users = [set(block.user_id.tolist()) for block in blocks]
    assert [len(each) for each in users] == [12, 13, 12, 13] and len(set.union(*users)) == 50
    assert sum(len(block.time_s) for block in blocks) == 10_001
    items = [set(zip(block.item_id.tolist(), block.category_id.tolist(), strict=True)) for block in blocks]
    assert len(items[0] & items[3]) > len(items[0]) / 2
    assert len({item for item, _ in set.union(*items)}) == len(set.union(*items)) <= settings.items


def test_every_item_belongs_to_one_category(log: BehaviourLog) -> None:
    pairs = set(zip(log.item.codes.tolist(), log.category.codes.tolist(), strict=True))
    assert len(pairs) == len(log.item.values)


def test_behaviours_and_empty_geohashes_have_tianchis_shares(log: BehaviourLog) -> None:
    shares = np.bincount(log.behaviour, minlength=5) / len(log)
    assert shares == pytest.approx([0, 0.9424, 0.0198, 0.0280, 0.0098], abs=1e-4)
    assert np.mean(log.geohash.strings() == "") == pytest.approx(0.68, abs=0.01)


def test_times_fill_the_month_with_an_outlier_on_12_december(log: BehaviourLog) -> None:
    day = (log.time_ms - FIRST_MS) // DAY_MS
    per_day = np.bincount(day)
    assert (day.min(), day.max(), len(per_day)) == (0, 30, 31)
    assert per_day.argmax() == 24
    assert per_day[24] > 1.5 * np.median(per_day)
    per_hour = np.bincount(log.time_ms // HOUR_MS % 24)
    assert per_hour[21] > 3 * per_hour[4]


def test_rows_are_not_in_time_order_yet_those_of_a_user_and_hour_are(log: BehaviourLog) -> None:
    assert np.mean(np.diff(log.time_ms) < 0) > 0.05
    order = np.lexsort((log.line, log.time_ms // HOUR_MS, log.user.codes))
    same = np.diff(log.user.codes[order]) == 0
    same &= np.diff(log.time_ms[order] // HOUR_MS) == 0
    assert same.sum() > 10_000
    assert (np.diff(log.time_ms[order])[same] >= 0).all()


def test_the_same_seed_gives_the_same_file_and_another_seed_another(tmp_path: Path) -> None:
    contents = []
    for seed in (1, 1, 2):
        write_sample(SampleSettings(users=20, rows=500, seed=seed), tmp_path / "log.csv", to_second=True)
        contents.append((tmp_path / "log.csv").read_bytes())
    assert contents[0] == contents[1] != contents[2]


def test_hour_precision_is_the_same_log_with_coarser_times(log: BehaviourLog, tmp_path: Path) -> None:
    write_sample(SETTINGS, tmp_path / "hours.csv", to_second=False)
    hours = read_behaviour_log(tmp_path / "hours.csv")
    assert (hours.precision_ms, log.precision_ms) == (HOUR_MS, SECOND_MS)
    assert (hours.time_ms == log.time_ms // HOUR_MS * HOUR_MS).all()
    assert (hours.item.strings() == log.item.strings()).all()


def test_more_popular_items_take_most_of_the_events_and_new_items_arrive(log: BehaviourLog) -> None:
    counts = np.sort(np.bincount(log.item.codes))[::-1]
    assert counts[: len(counts) // 5].sum() > 1.5 * counts[len(counts) // 2 :].sum()
    ordered = log.in_time_order()
    _, first_row = np.unique(ordered.item.codes, return_index=True)
    first_day = (ordered.time_ms[first_row] - FIRST_MS) // DAY_MS
    assert (first_day >= 10).sum() > 0.1 * len(counts)


def test_a_buy_mostly_follows_a_view_of_the_same_item(log: BehaviourLog) -> None:
    previous_item: dict[int, int] = {}
    repeats = []
    ordered = log.in_time_order()
    for user, item, kind in zip(ordered.user.codes, ordered.item.codes, ordered.behaviour, strict=True):
        if kind == 4:
            repeats.append(previous_item.get(user) == item)
        previous_item[user] = item
    assert np.mean(repeats) > 0.5


def next_item_cases(log: BehaviourLog, age_ms: int) -> list[tuple[int, int, bool]]:
    """Return (item known, next item, whether it is of the last fifth of the rows) for each row.

    The known item is the last of the user that is at least `age_ms` older than the next.
    """
    log = log.in_time_order()
    cases = []
    past: dict[int, list[tuple[int, int]]] = defaultdict(list)
    known: dict[int, int] = {}
    columns = (log.user.codes.tolist(), log.item.codes.tolist(), log.time_ms.tolist())
    for row, (user, item, time_ms) in enumerate(zip(*columns, strict=True)):
        waiting = past[user]
        while waiting and waiting[0][0] <= time_ms - age_ms:
            known[user] = waiting.pop(0)[1]
        if user in known:
            cases.append((known[user], item, row > 0.8 * len(log)))
        waiting.append((time_ms, item))
    return cases


def hit_rate_at_10(cases: list[tuple[int, int, bool]]) -> float:
    """Return how often the next item is among the ten that most often came after the known one."""
    followers: dict[int, Counter[int]] = defaultdict(Counter)
    for known, following, is_test in cases:
        if not is_test:
            followers[known][following] += 1
    top = {known: {item for item, _ in counter.most_common(10)} for known, counter in followers.items()}
    return float(np.mean([following in top.get(known, ()) for known, following, is_test in cases if is_test]))


def test_the_last_item_predicts_the_next_and_yesterdays_item_less_so(log: BehaviourLog) -> None:
    by_last_item = hit_rate_at_10(next_item_cases(log, age_ms=0))
    by_item_of_yesterday = hit_rate_at_10(next_item_cases(log, age_ms=DAY_MS))
    by_popularity = hit_rate_at_10([(0, item, is_test) for _, item, is_test in next_item_cases(log, 0)])
    assert by_last_item > 0.4
    assert by_last_item > 3 * by_item_of_yesterday
    assert by_last_item > 4 * by_popularity


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_the_command_writes_the_file_and_says_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "log.csv"
    code, output, _ = run("--users", "20", "--rows", "500", "--out", str(path))
    log = read_behaviour_log(path)
    assert (code, output) == (0, f"path={path} rows=500 users=20 items={len(log.item.values)}\n")
    assert [file.name for file in path.parent.iterdir()] == ["log.csv"]


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, _, error = run("--users", "1", "--rows", "1", "--out", str(tmp_path / "file" / "log.csv"))
    assert (code, error.count("\n")) == (1, 1)
    assert run("--out", str(tmp_path))[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [("--rows", "5", "--users", "6"), ("--users", "0"), ("--seed", "-1"), ("--rows", "9", "--like-tianchi")],
)
def test_settings_that_make_no_sense_are_refused(arguments: tuple[str, ...]) -> None:
    code, _, error = run(*arguments)
    assert code == 2
    assert arguments[0] in error


def test_tianchis_size_is_reached() -> None:
    like_tianchi = SampleSettings(users=10_000, rows=12_256_906)
    assert like_tianchi.categories == pytest.approx(8_916, rel=0.001)
