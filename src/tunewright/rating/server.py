"""Running the page until a signal: own socket, links for the raters, a clean end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from tunewright.core import listen
from tunewright.rating.access import Access
from tunewright.rating.app import create_app
from tunewright.rating.config import RateConfig
from tunewright.rating.store import Store

GRACE_S = 3
WARNING = (
    "rate: warning: {host} can be reached from other machines, and tokens and answers travel unencrypted.\n"
    "  Use it in a network you trust, or behind a proxy that speaks HTTPS. Give every rater their own link only."
)


class _Uvicorn(uvicorn.Server):
    """uvicorn raises a signal again once it has stopped; here ending it is the normal end, and the store is closed."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def run(store: Store, config: RateConfig, *, say: Callable[[str], None]) -> None:
    """Serves until SIGINT or SIGTERM. Raises ResourceError for a port or an address that cannot be opened."""
    if config.raters:
        store.name_raters(config.raters)
    access = Access(store, host=config.host)
    listener = listen.bind(config.host, config.port, section="rate")
    try:
        if config.host not in listen.LOOPBACK:
            say(WARNING.format(host=config.host))
        for line in links(url_of(listener), access.token, store.named):
            say(line)
        settings = uvicorn.Config(
            create_app(store, access),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        _Uvicorn(settings).run(sockets=[listener])
    finally:
        listener.close()


def links(url: str, token: Callable[[str], str], named: tuple[str, ...]) -> list[str]:
    """What is printed: one link, or one for every named rater."""
    if not named:
        return [f"rate: open {url}/ and sign in by name; Ctrl-C ends, every vote is saved at once"]
    width = max(len(name) for name in named)
    return [
        "rate: one link for each rater; Ctrl-C ends, every vote is saved at once",
        *(f"  {name:<{width}}  {url}/?token={token(name)}" for name in named),
    ]


def url_of(listener: socket.socket) -> str:
    """Where the page is, for a browser on this machine or, off loopback, with this machine's name in its place."""
    host, port = listener.getsockname()[:2]
    return listen.url("THIS-MACHINE" if host in listen.EVERYWHERE else host, port)
