"""How many processes the tests run in, and that these do not want each other's ports."""

from pathlib import Path

import pytest

from local import ports
from tests.side_by_side import BYTES_EACH, MOST, processes

ENOUGH = 100 * BYTES_EACH


def test_directories_of_tests_are_shared_by_as_many_processes_as_there_is_room_for(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").touch()
    one, all_of_them = str(tmp_path / "test_one.py"), str(tmp_path)
    assert processes([all_of_them], cores=2, available_bytes=ENOUGH) == 3
    assert processes([one, all_of_them], cores=64, available_bytes=ENOUGH) == MOST
    assert processes([all_of_them], cores=8, available_bytes=2 * BYTES_EACH) == 2
    assert processes([all_of_them], cores=8, available_bytes=2 * BYTES_EACH - 1) == 0
    assert processes([all_of_them], cores=1, available_bytes=ENOUGH) == 0
    assert processes([one, f"{one}::test_it"], cores=8, available_bytes=ENOUGH) == 0


def test_port_that_was_given_is_not_given_again_before_anybody_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ports, "RANGE", range(33_000, 33_040))
    given = [ports.free_port() for _ in range(20)]
    assert len(set(given)) == 20
