"""A verb's result on stdout: as text, or with --json as data."""

from __future__ import annotations

import json
import sys

from tunewright.cli import Arguments


def print_result(arguments: Arguments, value: object, text: str) -> None:
    """`text` for people; `value` as JSON where --json asks for it."""
    if "--json" in arguments.flags:
        text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
    sys.stdout.write(text + "\n")
