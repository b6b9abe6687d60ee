"""Plug-ins: every registered name imports, validates and is documented."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest

from tunewright import reference
from tunewright.core.errors import ConfigError, MissingExtraError
from tunewright.core.registry import Entry, Registry

NEEDED: dict[str, dict[str, Any]] = {
    "domain": {"vocabulary": ["card"]},
    "detoxify": {"weights": "weights.ckpt", "base": "base"},
    "perspective": {"api_key": "made-up"},
    "forgetting": {"path": "general.jsonl"},
    "judge": {"address": {"base_url": "http://127.0.0.1:1/v1", "model": "m"}},
    "lm_eval": {"tasks": {"gsm8k": "exact_match"}},
    "embedding": {"path": "model"},
    "http": {"endpoint": {"base_url": "http://127.0.0.1:1/v1", "model": "m"}},
    "remote": {"url": "http://127.0.0.1:1/v1"},
}
"""What plug-ins that do nothing by themselves must be told."""
NAMES = [(registry, name) for registry in reference.registries() for name in registry.entries]


@pytest.mark.parametrize(("registry", "name"), NAMES, ids=[f"{r.kind}-{n}" for r, n in NAMES])
def test_every_plugin_has_a_target_defaults_and_a_sentence(registry: Registry, name: str) -> None:
    if registry.kind == "schemes" and find_spec("llmcompressor") is None:
        pytest.skip("the quantize extra (llmcompressor) is not installed")
    options = registry.options(name)(**NEEDED.get(name, {}))
    assert options.name == name
    assert reference.summary(type(options)).endswith(".") or ":" in reference.summary(type(options))
    assert callable(registry.target(name))


def test_an_unknown_name_gets_a_suggestion() -> None:
    registry = reference.registries()[1]
    with pytest.raises(ConfigError, match="did you mean 'lora'"):
        registry.target("lroa")


def test_a_missing_library_gives_the_pip_line() -> None:
    registry = Registry("things", {"x": Entry("no_such_library_here:X", "also:Y", "quantize")})
    with pytest.raises(MissingExtraError) as caught:
        registry.target("x")
    assert "pip install 'tunewright[quantize]'" in str(caught.value)
    assert caught.value.exit_code == 4
