"""Two windows of one user -> one, where their events were kept in two places."""

from models.windows.reference import IncomingEvent, fold
from models.windows.window import MAX_EVENTS_BYTES, Window, WindowSettings


def merge(window: Window, other: Window, settings: WindowSettings) -> None:
    """Put the events of another window of the same user into a window, which keeps its place in the source.

    What it counts is what both have counted, also where an event does not fit any more.
    """
    place = window.topic_id, window.partition, window.offset
    applied, duplicate, late = (
        window.applied + other.applied,
        window.duplicate + other.duplicate,
        window.late + other.late,
    )
    columns = (other.times_ms, other.behaviours, other.item_ids, other.categories, other.event_hashes)
    for number, event in enumerate(zip(*columns, strict=True)):
        fold(window, IncomingEvent(number, *event), "", -2, settings, MAX_EVENTS_BYTES)
    window.topic_id, window.partition, window.offset = place
    window.applied, window.duplicate, window.late = applied, duplicate, late
