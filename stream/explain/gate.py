"""Who may look at the explain page: this host alone, or, where there is a token, whoever has it."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Any
from urllib.parse import urlsplit

#: What a proxy adds: whoever is behind it need not be this host.
FORWARDED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", "HTTP_X_REAL_IP", "HTTP_VIA")

_SCHEME = "bearer "


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why somebody may not look: an HTTP status, and what to do, in one line."""

    status: str
    reason: str


class Gate:
    """Decides by a request's WSGI environment."""

    def __init__(self, token: str) -> None:
        """`token` is what everybody must have; where it is empty, only this host may look."""
        self._token = token.encode()

    def refuse(self, environment: Mapping[str, Any], is_data: bool) -> Refusal | None:
        """Return why this request is refused, None where it is not.

        The page itself (`is_data` false) holds nothing that is worth a token, and asks for it.
        """
        if not self._token:
            return None if _is_this_host(environment) else Refusal("403 Forbidden", _LOOPBACK_ALONE)
        return None if not is_data or self._has_token(environment) else Refusal("401 Unauthorized", _NO_TOKEN)

    def _has_token(self, environment: Mapping[str, Any]) -> bool:
        header = str(environment.get("HTTP_AUTHORIZATION", ""))
        given = header[len(_SCHEME) :].strip().encode("latin-1", "replace")
        return hmac.compare_digest(given, self._token) and header[: len(_SCHEME)].lower() == _SCHEME


_LOOPBACK_ALONE = (
    "without a token this page is for the worker's own host, at http://127.0.0.1: set "
    "TWINTIDE_EXPLAIN_TOKEN, or forward the port (ssh -L, kubectl port-forward)"
)
_NO_TOKEN = "send the worker's TWINTIDE_EXPLAIN_TOKEN, as `Authorization: Bearer TOKEN`"


def _is_this_host(environment: Mapping[str, Any]) -> bool:
    """Return whether this host asks itself, under a name that no page of another site can take.

    A browser that was made to think that some name is 127.0.0.1 still sends that name (DNS rebinding).
    """
    if any(name in environment for name in FORWARDED):
        return False
    try:
        name = urlsplit(f"//{environment.get('HTTP_HOST', '')}").hostname or ""
    except ValueError:
        return False
    return _is_loopback(str(environment.get("REMOTE_ADDR", ""))) and (
        name == "localhost" or _is_loopback(name)
    )


def _is_loopback(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (inner or address).is_loopback
