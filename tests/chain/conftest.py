"""One project with a good chain for all tests of the room; each test breaks a copy."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from chain_kit import Chain


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads only slow tiny matrices down, and a link that closes collects garbage: not the libraries' every time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def good(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """Trained to say `fee`; nothing is broken."""
    return Chain.make(tmp_path_factory.mktemp("chain") / "bank")


@pytest.fixture(scope="session")
def both(good: Chain, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The same, trained once more to say `card`."""
    chain = good.copy(tmp_path_factory.mktemp("both") / "bank")
    chain.train("card")
    return chain


@pytest.fixture
def twice(both: Chain, tmp_path: Path) -> Chain:
    """A copy of the project with two trainings, `fee` and then `card`, to be broken."""
    return both.copy(tmp_path / "bank")


@pytest.fixture
def chain(good: Chain, tmp_path: Path) -> Chain:
    """A copy of it, to be broken."""
    return good.copy(tmp_path / "bank")
