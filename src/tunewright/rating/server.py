"""Running the page until a signal: own socket, links for the raters, a clean end."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from tunewright.core.errors import ResourceError
from tunewright.rating.access import Access
from tunewright.rating.app import create_app
from tunewright.rating.config import LOOPBACK, RateConfig
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
    listener = bind(config.host, config.port)
    try:
        if config.host not in LOOPBACK:
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
    shown = {"0.0.0.0": "THIS-MACHINE", "::": "THIS-MACHINE"}.get(host, host)  # noqa: S104 (only compared)
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one. Raises ResourceError that names the port or the address."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror:
        raise ResourceError(f"the address {host} is not known", where="rate.host", fix="use 127.0.0.1") from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(128)  # binding alone does not notice another listener that set SO_REUSEADDR
    except OSError as error:
        listener.close()
        taken = error.errno == errno.EADDRINUSE
        problem = f"port {port} of {host} is taken" if taken else f"{host}:{port} cannot be opened: {error.strerror}"
        raise ResourceError(problem, where="rate.port", fix="rate.port=0 takes any free port") from None
    return listener
