"""A certificate and its key, by which we prove to servers who we are, checked as the settings are read."""

import ssl
from pathlib import Path

from models.errors import SettingsError

#: What of the names of the variables follows that of the server.
FILE, KEY_FILE, KEY_PASSWORD = "SSL_CERTIFICATE_FILE", "SSL_KEY_FILE", "SSL_KEY_PASSWORD"

#: The longest password that Python hands to OpenSSL (bytes).
MAX_PASSWORD_BYTES = 1_024


def check_client_certificate(server: str, file: str, key_file: str, key_password: str, is_tls: bool) -> None:
    """Raise SettingsError where a certificate cannot be used; with "" for `file` there is none.

    server: how the variables begin, as in KAFKA; key_file: "" where the key stands in `file` too; is_tls:
    whether the server is talked to by TLS at all. Neither key nor password is ever shown.
    """
    variable, of_key = f"{server}_{FILE}", f"{server}_{KEY_FILE}" if key_file else f"{server}_{FILE}"
    if not file:
        if key_file or key_password:
            other = KEY_FILE if key_file else KEY_PASSWORD
            raise SettingsError(f"{server}_{other} is set and {variable} is not: set both, or neither")
        return
    if not is_tls:
        raise SettingsError(
            f"{variable} is set, and the connection to {server} is without TLS, where no certificate is shown"
        )
    certificate, key = _read(variable, file), _read(of_key, key_file or file)
    if "BEGIN CERTIFICATE" not in certificate:
        raise SettingsError(f"{variable} is {file!r}, which cannot be used (no certificate in PEM is in it)")
    if "PRIVATE KEY-----" not in key:
        remedy = "" if key_file else f"; set {server}_{KEY_FILE}"
        raise SettingsError(
            f"{of_key} is {key_file or file!r}, which cannot be used (no private key in PEM is in it){remedy}"
        )
    if len(key_password.encode()) > MAX_PASSWORD_BYTES:
        raise SettingsError(f"{server}_{KEY_PASSWORD} is longer than {MAX_PASSWORD_BYTES} bytes")
    try:
        # Without a password here, OpenSSL would ask for one on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(
            file, key_file or None, password=lambda: key_password
        )
    except ssl.SSLError as error:
        raise SettingsError(_why_not(server, key_file or file, key, key_password, error)) from None


def _read(variable: str, file: str) -> str:
    try:
        return Path(file).read_text("latin-1")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such path"
        raise SettingsError(f"{variable} is {file!r}, which cannot be used ({reason})") from error


def _why_not(server: str, key_file: str, key: str, key_password: str, error: ssl.SSLError) -> str:
    """Return why a certificate and its key cannot be loaded."""
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"the key in {key_file!r} is not that of the certificate in {server}_{FILE}"
    if "ENCRYPTED" in key:
        how = "does not open it" if key_password else "is not set"
        return f"the key in {key_file!r} is encrypted, and {server}_{KEY_PASSWORD} {how}"
    return f"{server}_{FILE} cannot be used with the key in {key_file!r} (one of them is damaged)"
