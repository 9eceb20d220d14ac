"""What an adopted encoder wants to be fed: said once, when it is adopted, and stored with it."""

from dataclasses import dataclass
from typing import Literal

from models.errors import SettingsError
from models.sessions import DEFAULT_GAP_MS

#: The inputs that an encoder may have, by name: (B, T) each, but `length` (B,).
INPUTS = ("item", "category", "behaviour", "age_s", "session", "length")


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """How histories are laid out for the encoder."""

    #: On which side of a user's events the padding stands.
    padding: Literal["left", "right"] = "right"
    #: The most events that it reads: the newest of those that it knows.
    max_events: int = 100
    #: Places of every row (T); 0: as many as the longest history of a batch needs.
    width: int = 0
    #: A new session starts after a pause longer than this (ms).
    gap_ms: int = DEFAULT_GAP_MS
    #: What a user without events gets: what the encoder makes of padding alone, or the mean of all items.
    cold_start: Literal["encoder", "mean"] = "encoder"

    def __post_init__(self) -> None:
        for name, least in (("max_events", 1), ("width", 0), ("gap_ms", 1)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.padding not in ("left", "right"):
            raise SettingsError(f"padding is {self.padding!r}; it must be left or right")
        if self.cold_start not in ("encoder", "mean"):
            raise SettingsError(f"cold_start is {self.cold_start!r}; it must be encoder or mean")
        if self.width and self.max_events > self.width:
            raise SettingsError(f"max_events {self.max_events} does not fit the width {self.width}")
