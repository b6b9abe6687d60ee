"""Listening on a TCP port, and the URL under which a server is reached."""

from __future__ import annotations

import errno
import socket

from tunewright.core.errors import ResourceError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (only compared)
"""Addresses that stand for all of a machine's own, which nobody can connect to; and the one of this machine to take."""


def bind(host: str, port: int, *, section: str) -> socket.socket:
    """A listening socket; port 0 takes a free one. section: of the project file, where `host` and `port` stand.

    Raises ResourceError that names the port or the address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror:
        raise ResourceError(f"the address {host} is not known", where=f"{section}.host", fix="use 127.0.0.1") from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(1024)  # binding alone does not notice another listener that set SO_REUSEADDR
    except OSError as error:
        listener.close()
        raise _cannot_listen(host, port, section, error) from None
    return listener


def _cannot_listen(host: str, port: int, section: str, error: OSError) -> ResourceError:
    key = f"{section}.port"
    if error.errno == errno.EADDRINUSE:
        another = f"{key}={port + 1}; " if port < 65535 else ""
        fix = f"stop it, or choose another port: {another}{key}=0 takes any free one"
        return ResourceError(f"port {port} of {host} is taken by another program", where=key, fix=fix)
    if error.errno in (errno.EACCES, errno.EPERM):
        fix = f"choose a port of 1024 or more: {key}=8000"
        return ResourceError(f"port {port} may not be opened", where=key, fix=fix)
    problem = f"{host}:{port} cannot be opened: {error.strerror}"
    return ResourceError(problem, where=f"{section}.host", fix="use 127.0.0.1")


def url(host: str, port: int) -> str:
    """`http://HOST:PORT`, without a path."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def local_url(host: str, port: int) -> str:
    """The URL of a server that listens on `host`, for a program on the same machine."""
    return url(EVERYWHERE.get(host, host), port)


def free_port() -> int:
    """A TCP port of loopback that nobody uses now; another program may take it before the caller does."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK[0], 0))
        return int(probe.getsockname()[1])
