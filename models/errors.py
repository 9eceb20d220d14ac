"""The errors a user can cause or mend; each message is one line: what, where, what to do.

TwintideError           exit status 1
├── DataError           a behaviour log that cannot be read
├── ArtifactError       a damaged, foreign or missing artifact
│   └── NoArtifactError there is none at a place
├── UnreachableError    a server or a bucket that does not answer, or refuses
└── SettingsError       a setting that makes no sense; exit status 2
"""


class TwintideError(Exception):
    """Base of every error that a command prints as one line instead of a traceback."""

    exit_code = 1


class DataError(TwintideError):
    """A behaviour log that cannot be read."""


class ArtifactError(TwintideError):
    """A damaged, foreign or missing artifact."""


class NoArtifactError(ArtifactError):
    """There is none at a place; `command` makes one."""

    def __init__(self, place: object, command: str) -> None:
        super().__init__(f"there is no artifact at {place}: make one with `{command}`")
        self.place = place


class UnreachableError(TwintideError):
    """A server or a bucket that does not answer, or refuses."""


class SettingsError(TwintideError):
    """A setting that makes no sense, alone or beside the others."""

    exit_code = 2
