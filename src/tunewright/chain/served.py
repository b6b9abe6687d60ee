"""The project's own server over artifacts, on a free loopback port, for as long as the chain asks it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tunewright.chain.door import Door
from tunewright.core.errors import MissingExtraError
from tunewright.core.events import say

if TYPE_CHECKING:
    from tunewright.models.tokens import ChatTokenizer
    from tunewright.serve.choose import Choice
    from tunewright.serve.config import ServeConfig


def need_libraries() -> None:
    """Raises MissingExtraError before the slow work rather than after it."""
    try:
        import fastapi
        import uvicorn
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the chain ends in the server, which needs {error.name}", fix="pip install 'tunewright[serve]'"
        ) from None
    del fastapi, uvicorn


def maker_of(config: ServeConfig, *, opens_weights: bool = False) -> Any:
    """What makes the project's engine; our own where that is a server elsewhere, or, with opens_weights, where it opens
    GGUF files only."""
    from tunewright.serve.engines.config import ENGINES, TransformersOptions

    options = config.engine if config.engine.name != "remote" else TransformersOptions()
    maker = ENGINES.target(options.name)(options)
    if opens_weights and maker.wants == "gguf":
        return ENGINES.target("transformers")(TransformersOptions())
    return maker


@contextmanager
def started(choice: Choice, config: ServeConfig, maker: Any, *, name: str) -> Iterator[tuple[Door, ChatTokenizer]]:
    """(the door, the tokenizer that the server renders with). The project's serve settings hold, but for the address,
    for masking, which asks something else by intent, and for cache, jobs and further models, which would hide this
    one. maker: of `maker_of`."""
    from tunewright.serve.app import Parts
    from tunewright.serve.engines.http_engine import Place
    from tunewright.serve.server import Server, in_thread
    from tunewright.serve.wire import Model, now

    say(f"chain: {choice.sentence}")
    local = config.model_copy(
        update={"host": "127.0.0.1", "port": 0, "queue": max(config.queue, config.batch_size), "redact": ()}
    )
    engine = maker.make(choice, Place(local.batch_size, local.queue))
    parts = Parts(Model(id=name, created=now(), variant=choice.variant))
    with in_thread(Server(engine, local, parts, log=_no_log)) as url:
        assert engine.loaded is not None
        key = next(iter(local.tenants.values()), None)
        yield Door.open(url, name=name, key=key, together=local.batch_size), engine.loaded.tokenizer


def _no_log(_: str) -> None:
    """The chain's own requests are not worth a line each."""
