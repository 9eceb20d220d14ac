"""The order of rooms: no import runs back up, and docs/architecture.md shows the very order that there is."""

from tests.docs.house import (
    PACKAGES,
    draw,
    drawing,
    drawn_order,
    file_arrows,
    on_a_cycle,
    room_arrows,
    rooms,
)


def test_no_two_files_import_each_other() -> None:
    assert not on_a_cycle(file_arrows())


def test_no_import_runs_back_up() -> None:
    assert not on_a_cycle(room_arrows())


def test_an_import_that_runs_back_would_be_noticed() -> None:
    order = drawn_order(drawing())
    back = (order[0], order[-1])
    assert set(back) <= on_a_cycle(room_arrows() | {back, (order[-1], order[0])})


def test_packages_themselves_import_no_room() -> None:
    tops = {f"{package}/__init__.py" for package in PACKAGES}
    assert not [pair for pair in room_arrows() if tops & set(pair)]


def test_drawing_has_every_room_below_those_that_import_it() -> None:
    order = drawn_order(drawing())
    assert sorted(order) == sorted(rooms())
    place = {room: number for number, room in enumerate(order)}
    assert not [(room, other) for room, other in room_arrows() if place[room] < place[other]]


def test_drawing_is_what_the_files_say() -> None:
    # Where this fails: python -m tests.docs.house
    assert drawing().splitlines() == draw(drawn_order(drawing())).splitlines()


def test_every_file_says_its_job_in_one_line() -> None:
    assert not [line for line in drawing().splitlines() if line.rstrip().endswith(":")]
