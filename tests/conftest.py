"""Shared fixtures: small models made in the process, hand-made artifacts, no network."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


def pytest_configure(config: pytest.Config) -> None:
    """Property-based tests try the same inputs every time, so that a change fails for what it changed; the soak tries
    new ones."""
    settings.register_profile("same", derandomize=True)
    settings.load_profile("default" if config.getoption("--soak") else "same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long versions of soak, fuzz and kill tests")


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether the long versions run (`make soak`)."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public data beside the checkout; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the public data folder ../shared is not here")
    return SHARED


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with a byte tokenizer."""
    from tunewright.models import tiny as tiny_model

    folder = tmp_path_factory.mktemp("tiny")
    tiny_model.write(folder)
    return folder
