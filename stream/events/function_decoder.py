"""Events read by a function of the user's, value by value."""

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import cast

from models.errors import SettingsError
from models.events import Event
from stream.events.columns import DecodedEvents, WholeEvents


class FunctionDecoder:
    """Decodes value by value, with a function of the user's."""

    def __init__(self, decode: Callable[[bytes], Event]) -> None:
        self._decode = decode

    def columns(self, values: Sequence[bytes | None]) -> DecodedEvents | None:
        """Return None: a function knows one value at a time."""
        return None

    def whole(self, values: Sequence[bytes | None]) -> WholeEvents | None:
        """Return None, as `columns` does."""
        return None

    def events(self, values: Sequence[bytes | None]) -> list[Event | None]:
        """Return each event, None for what cannot be read."""
        return [self._event(value) for value in values]

    def _event(self, value: bytes | None) -> Event | None:
        try:
            event = self._decode(value or b"")
        except Exception:  # a decoder of the user's may raise anything; an event is data, never a crash
            return None
        is_whole = isinstance(event, Event) and type(event.time) is type(event.behavior_type) is int
        return event if is_whole else None


def named_function(name: str) -> Callable[[bytes], Event]:
    """Return the function of this name, `module:function`; SettingsError where there is none."""
    module_name, _, function_name = name.partition(":")
    try:
        return cast(Callable[[bytes], Event], getattr(import_module(module_name), function_name))
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"TWINTIDE_EVENT_DECODER is {name!r}, which cannot be loaded ({error}); write module:function"
        ) from error
