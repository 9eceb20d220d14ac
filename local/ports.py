"""Free TCP ports on loopback."""

import random
import socket

#: Below the ports that Linux gives to outgoing connections, so that a stopped server's port stays free
#: until it starts again.
RANGE = range(20_000, 32_000)

#: Given to somebody here who may not listen yet.
_given: set[int] = set()

#: Not the generator that a model's seed sets: two processes with one seed would want the same ports.
_random = random.SystemRandom()


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def answers(port: int) -> bool:
    """Return whether something accepts connections on the port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def free_port(preferred: int | None = None) -> int:
    """Return the preferred port where it is free, else a random free one that was not given here before."""
    if preferred is not None and is_free(preferred):
        return preferred
    found = next(port for port in _random.sample(RANGE, len(RANGE)) if port not in _given and is_free(port))
    _given.add(found)
    return found
