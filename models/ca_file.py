"""A file of the authorities that sign servers' certificates, checked as the settings are read."""

import ssl

from models.errors import SettingsError


def check_ca_file(variable: str, file: str) -> None:
    """Raise SettingsError where `file`, which this variable names, has no such certificates; "" is none."""
    if not file:
        return
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:
        reason = error.strerror or "no certificates in PEM are in it"
        raise SettingsError(f"{variable} is {file!r}, which cannot be used ({reason})") from error
