"""DeepSpeed writes its log to stdout, which is for results. accelerate imports it wherever it is installed."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from importlib.util import find_spec


def settle_deepspeed() -> None:
    """Imports DeepSpeed, where it is installed, with its log bound to stderr."""
    if find_spec("deepspeed") is not None:
        with redirect_stdout(sys.stderr):
            import deepspeed  # noqa: F401
