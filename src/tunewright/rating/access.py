"""Who may rate: tokens, session cookies and the marks of forms, all signed with the store's secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from tunewright.core.listen import LOOPBACK
from tunewright.rating.config import rater_name
from tunewright.rating.store import Store


class Access:
    """With named raters a token is needed; else anyone who reaches the page signs in by name (loopback only)."""

    def __init__(self, store: Store, *, host: str) -> None:
        self._store = store
        self._secret = bytes.fromhex(store.secret)
        self._loopback = host in LOOPBACK
        self.cookie_name = f"rater_{self._sign('cookie', '')[:8]}"

    def _sign(self, purpose: str, value: str) -> str:
        return hmac.new(self._secret, f"{purpose}:{value}".encode(), hashlib.sha256).hexdigest()[:32]

    @property
    def needs_token(self) -> bool:
        """Whether a name alone is not enough."""
        return bool(self._store.named)

    def token(self, name: str) -> str:
        """The token of a rater; the same after every start, so that links stay good."""
        return self._sign("token", name)

    def rater_of_token(self, token: str) -> str | None:
        """Whose token this is."""
        given = token.strip().encode()
        return next((n for n in self._store.named if hmac.compare_digest(self.token(n).encode(), given)), None)

    def cookie(self, name: str) -> str:
        """The value of the session cookie of a rater."""
        encoded = base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")
        return f"{encoded}.{self._sign(self._session, name)}"

    @property
    def _session(self) -> str:
        """A cookie that was given for a name alone is worth nothing once tokens are needed."""
        return "session by token" if self.needs_token else "session by name"

    def rater_of_cookie(self, value: str) -> str | None:
        """Whose cookie this is; None for a forged one and for a rater who was taken off the list."""
        encoded, _, signature = value.partition(".")
        try:
            name = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
            rater_name(name)
        except (binascii.Error, UnicodeError, ValueError):
            return None
        if not hmac.compare_digest(self._sign(self._session, name).encode(), signature.encode()):
            return None
        return name if not self.needs_token or name in self._store.named else None

    def mark(self, name: str) -> str:
        """The hidden field of a rater's forms; a page of another site cannot know it."""
        return self._sign("form", name)

    def is_marked(self, name: str, given: str) -> bool:
        """Whether a form was made by this server for this rater."""
        return hmac.compare_digest(self.mark(name).encode(), given.encode())

    def is_own_host(self, host: str) -> bool:
        """Whether the Host header names this server. On loopback another name means that a foreign name was pointed
        here (DNS rebinding); elsewhere the server does not know its names, and tokens guard it."""
        try:
            named = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return not self._loopback or named in LOOPBACK


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a form was sent from a page of this server, as far as the browser says."""
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
    return urlsplit(origin).netloc == headers.get("host", "")
