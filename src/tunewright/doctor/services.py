"""Redis or Valkey, where the project names one: reached with a plain PING, without a library."""

from __future__ import annotations

import socket
import ssl
from typing import Protocol
from urllib.parse import unquote, urlsplit

from tunewright.doctor.facts import Fact

TIMEOUT_S = 3.0
DEFAULT_PORT = 6379
SCHEMES = ("redis://", "rediss://", "unix://")


class Addressed(Protocol):
    """A section that may name a Redis or Valkey."""

    def url(self) -> str:
        """Its address, or a word such as `off`; raises ValueError where it stands in a variable that is not set."""


def redis_fact(key: str, section: Addressed) -> Fact | None:
    """key: of the project file, for the text. None where no Redis is configured. Never shows the password."""
    try:
        url = section.url()
    except ValueError as error:
        return Fact(name="Redis", fact=f"{key}: {error}", verdict="fail", fix="set it, or write redis://HOST:PORT/0")
    if not url.startswith(SCHEMES):
        return None
    place = _place(url)
    try:
        answer = ping(url)
    except (OSError, ValueError) as error:
        words = f"{key}: {place} does not answer: {error}"
        return Fact(name="Redis", fact=words, verdict="fail", fix=f"start it, or change {key}")
    if answer.startswith("+PONG"):
        return Fact(name="Redis", fact=f"{key}: {place} answers")
    words = f"{key}: {place} refuses: {answer.lstrip('-')}"
    return Fact(name="Redis", fact=words, verdict="fail", fix=f"correct user and password in {key}")


def ping(url: str) -> str:
    """The first line of what the server says to PING, after AUTH where the address has a password.

    Raises OSError where nothing listens there, ValueError for a port that is no number.
    """
    parts = urlsplit(url)
    with _connect(url) as connection:
        handle = connection.makefile("rwb")
        if parts.password:
            words = [unquote(word) for word in (parts.username, parts.password) if word]
            handle.write(_command("AUTH", *words))
            handle.flush()
            answer = handle.readline().decode("utf-8", "replace").strip()
            if not answer.startswith("+"):
                return answer
        handle.write(_command("PING"))
        handle.flush()
        return handle.readline().decode("utf-8", "replace").strip()


def _connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT_S)
        try:
            connection.connect(parts.path)
        except OSError:
            connection.close()
            raise
        return connection
    host = parts.hostname or "localhost"
    plain = socket.create_connection((host, parts.port or DEFAULT_PORT), TIMEOUT_S)
    return ssl.create_default_context().wrap_socket(plain, server_hostname=host) if parts.scheme == "rediss" else plain


def _command(*words: str) -> bytes:
    """In Redis' own protocol (RESP): an array of strings with their lengths."""
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def _place(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return parts.path
    return f"{parts.hostname or 'localhost'}:{parts.port or DEFAULT_PORT}"
