"""`score FILE.jsonl --metrics ...`: numbers for answers that were made elsewhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tunewright.cli import Arguments
from tunewright.core.config import apply_overrides
from tunewright.core.errors import ConfigError

DEFAULT_SEED = 7


def score(arguments: Arguments) -> int:
    """Prints a table, or with --json the scores and what was found in every row."""
    from tunewright.evaluate import score as scoring

    if len(arguments.words) != 1:
        raise ConfigError(
            f"`score` takes one file, not {len(arguments.words)}", fix="tunewright score FILE.jsonl --metrics bleu,math"
        )
    named = [name.strip() for name in (arguments.metrics or "").split(",") if name.strip()]
    options, seed = _options(arguments.overrides, named)
    config = scoring.configured(named, options)
    found = scoring.score(config, scoring.read_rows(Path(arguments.words[0])), seed=seed)
    if "--json" in arguments.flags:
        sys.stdout.write(json.dumps(found.dump(), ensure_ascii=False, allow_nan=False) + "\n")
    else:
        sys.stdout.write(found.text() + "\n")
    return 0


def _options(overrides: list[str], named: list[str]) -> tuple[dict[str, dict[str, Any]], int]:
    """Options a metric from words such as `intent.label=metadata.topic`, and `seed=3`."""
    given: dict[str, Any] = {name: {} for name in named}
    apply_overrides(given, overrides, {})
    seed = given.pop("seed", DEFAULT_SEED)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"the seed must be a whole number, not {seed!r}", where="seed")
    if unknown := [name for name in given if name not in named or not isinstance(given[name], dict)]:
        raise ConfigError(
            f"`score` has no option '{unknown[0]}'", fix="write METRIC.KEY=VALUE for a metric in --metrics, or seed=N"
        )
    return given, seed
