"""CSV as people have it: quotes that are never closed, other line ends, other encodings."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import DataError
from models.log import csv_file
from models.log.behaviour_log import BehaviourLog, read_behaviour_log
from models.log.format import LogFormat

HEADER = "user_id,item_id,behavior_type,user_geohash,item_category,time"
WITH_TITLE = f"{HEADER},title"
LENIENT = LogFormat(bad_share=0.9)


def row(number: int, title: str | None = None) -> str:
    return f"u{number},i{number},1,,c,2014-11-18 09" + ("" if title is None else f",{title}")


def read(
    folder: Path, lines: list[str], end: str = "\n", encoding: str = "utf-8", log_format: LogFormat = LENIENT
) -> BehaviourLog:
    (folder / "log.csv").write_bytes(end.join([*lines, ""]).encode(encoding))
    return read_behaviour_log(folder / "log.csv", log_format)


def users(log: BehaviourLog) -> list[str]:
    return [str(user) for user in log.user.strings()]


@pytest.mark.parametrize("closed_after", [1, 5, 40, None])
def test_rows_after_a_quote_that_is_never_closed_are_read(
    tmp_path: Path, closed_after: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [HEADER, *(row(number) for number in range(50))]
    lines[3] = 'u2,"i2,1,,c,2014-11-18 09'
    if closed_after:
        lines[3 + closed_after] = f'u{2 + closed_after},5",1,,c,2014-11-18 09'
    log = read(tmp_path, lines)
    lost = {2, 2 + (closed_after or 0)}
    assert users(log) == [f"u{number}" for number in range(50) if number not in lost]
    assert log.bad_rows == len(lost)
    assert "line 4: a quote is opened and not closed: 'u2,\"i2,1,,c,2014-11-18 09'" in caplog.text
    assert ("a quote that closes nothing: " in caplog.text) is bool(closed_after)


def test_quote_that_is_opened_in_the_last_line_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    header = "time,user_id,item_id,behavior_type,user_geohash,item_category"
    log = read(tmp_path, [header, "2014-11-18 09,u1,i,1,,c", '2014-11-18 09,u2,i,1,,"c'])
    assert (users(log), log.bad_rows) == (["u1"], 1)
    assert "line 3: a quote is opened and not closed" in caplog.text


def test_quote_at_the_end_of_a_block_does_not_hide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "BLOCK_BYTES", 100)
    header = "time,user_id,item_id,behavior_type,user_geohash,item_category"
    for stray in range(1, 9):
        lines = [header, *(f"2014-11-18 09,u{number},i,1,,c" for number in range(10))]
        lines[stray] = lines[stray][:-1] + '"c'
        log = read(tmp_path, lines)
        assert users(log) == [f"u{number}" for number in range(10) if number != stray - 1]


def test_value_over_several_lines_is_read_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [WITH_TITLE, row(1, "plain"), row(2, '"two\nlines, and\n""more"""'), "", row(3, '"one"')]
    log = read(tmp_path, lines)
    assert (users(log), log.line.tolist(), log.bad_rows) == (["u1", "u2", "u3"], [2, 3, 7], 0)
    assert "1 rows have a value over several lines, the first begins in line 3" in caplog.text


def test_inch_marks_in_a_column_that_is_not_needed_are_no_quotes(tmp_path: Path) -> None:
    titles = ['5" screen', '"5"" screen"', '"5" screen', 'screen 5"', '""', 'a "b" c']
    lines = [WITH_TITLE, *(row(number, title) for number, title in enumerate(titles))]
    for more in ([], [""]):  # in blocks and line by line
        assert len(users(read(tmp_path, [*lines, *more]))) == len(titles)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("blank", [[], [""]])
def test_every_line_end_is_one(tmp_path: Path, end: str, blank: list[str]) -> None:
    log = read(tmp_path, [HEADER, row(1), *blank, '"u,2",i,1,,c,2014-11-18 09', row(3)], end)
    assert users(log) == ["u1", "u,2", "u3"]
    assert log.line.tolist() == [2, 3 + len(blank), 4 + len(blank)]


@pytest.mark.parametrize("encoding", ["gbk", "shift_jis", "big5"])
@pytest.mark.parametrize("blank", [[], [""]])
def test_columns_that_are_not_needed_need_not_be_utf_8(
    tmp_path: Path, encoding: str, blank: list[str]
) -> None:
    lines = [f"{HEADER},名", row(1, "表能"), *blank, row(2, "ab")]
    assert users(read(tmp_path, lines, encoding=encoding)) == ["u1", "u2"]


def test_column_that_is_needed_and_in_another_encoding_is_named(tmp_path: Path) -> None:
    lines = [HEADER, row(1), row(2).replace(",c,", ",表,"), row(3)]
    with pytest.raises(DataError, match=r"log\.csv:3: item_category is not UTF-8 text: b'\\xb1\\xed'"):
        read(tmp_path, lines, encoding="gbk", log_format=LogFormat())
    assert users(read(tmp_path, lines, encoding="gbk")) == ["u1", "u3"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_byte_order_marks(tmp_path: Path, encoding: str) -> None:
    lines = [HEADER, row(1), "", row(2)]
    if encoding == "utf-16":
        with pytest.raises(DataError, match="found what is not UTF-8 text"):
            read(tmp_path, lines, encoding=encoding)
    else:
        assert users(read(tmp_path, lines, encoding=encoding)) == ["u1", "u2"]
        without_header = LogFormat(header=tuple(HEADER.split(",")))
        assert users(read(tmp_path, lines[1:], encoding=encoding, log_format=without_header)) == ["u1", "u2"]


def test_columns_that_are_not_needed_may_have_one_name(tmp_path: Path) -> None:
    assert users(read(tmp_path, [f",,{HEADER}", f"1,2,{row(1)}"])) == ["u1"]


def test_another_delimiter_is_read_where_the_format_says_so(tmp_path: Path) -> None:
    lines = [line.replace(",", ";") for line in (HEADER, row(1), "", row(2))]
    assert users(read(tmp_path, lines, log_format=LogFormat(delimiter=";"))) == ["u1", "u2"]
    with pytest.raises(DataError, match=r"log\.csv:1: the header .* is one column; does ';' part them\?"):
        read(tmp_path, lines)


def test_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.log.csv_lines.BLOCK_BYTES", 1000)
    with pytest.raises(DataError, match=r"log\.csv:3: a line of more than 1,000 bytes"):
        read(tmp_path, [HEADER, row(1), "x" * 3000])


VALUES = st.text(st.sampled_from('ab",\n '), max_size=5)
FIELDS = st.one_of(
    st.text(st.sampled_from("ab "), max_size=4),
    VALUES.map(lambda text: '"' + text.replace('"', '""') + '"'),
    st.text(st.sampled_from('ab" '), max_size=4),
)


@given(titles=st.lists(FIELDS, min_size=1, max_size=12), is_last=st.booleans())
def test_no_row_is_lost_without_a_word_whatever_stands_in_another_column(
    tmp_path_factory: pytest.TempPathFactory, titles: list[str], is_last: bool
) -> None:
    if is_last:
        lines = [WITH_TITLE, *(row(number, title) for number, title in enumerate(titles))]
    else:
        lines = [f"title,{HEADER}", *(f"{title},{row(number)}" for number, title in enumerate(titles))]
    lines.append(lines[-1].replace(titles[-1], "end"))
    try:
        log = read(tmp_path_factory.mktemp("log"), lines)
    except DataError as error:
        assert "rows are bad" in str(error)
    else:
        assert len(log) + log.bad_rows >= len(titles) + 1
        assert set(users(log)) <= {f"u{number}" for number in range(len(titles))}
