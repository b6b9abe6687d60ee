"""Libraries that talk too much, made quiet; their errors stay loud."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

from tunewright.core.events import say


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines, bars or warnings of the libraries; their errors are raised, and their ERROR lines are said."""
    original = tqdm.__init__

    def disabled(bar: Any, *items: Any, **options: Any) -> None:
        original(bar, *items, **options | {"disable": True})

    with ExitStack() as stack:
        if find_spec("loguru"):  # llm-compressor's log; the train extra does not bring it
            stack.enter_context(_loguru_says_errors())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.callback(logging.disable, logging.root.manager.disable)
        logging.disable(logging.WARNING)
        stack.enter_context(replaced(tqdm, "__init__", disabled))
        stack.enter_context(environment_kept())  # oneshot switches the tokenizers' threads off for good
        yield


@contextmanager
def _loguru_says_errors() -> Iterator[None]:
    from loguru import logger

    logger.remove()
    handler = logger.add(lambda message: say(str(message.record["message"])), level="ERROR")
    try:
        yield
    finally:
        logger.remove(handler)


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """`owner.name` is `value` inside the block."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def environment_kept() -> Iterator[None]:
    """Environment variables set inside the block are gone after it."""
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def import_quietly(name: str) -> None:
    """The first import of llm-compressor and compressed-tensors puts a log on stdout and warns there of a missing
    accelerator."""
    if name in sys.modules:
        return
    with quiet():
        os.environ["LLM_COMPRESSOR_LOG_DISABLED"] = "true"
        importlib.import_module(name)
