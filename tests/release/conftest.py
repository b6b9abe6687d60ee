"""One trained and evaluated project for all tests of the room; each test spoils a copy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from release_kit import Shop


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads only slow tiny matrices down."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A project with a good adapter, not evaluated yet."""
    shop = Shop.make(tmp_path_factory.mktemp("trained") / "shop")
    shop.train()
    return shop


@pytest.fixture(scope="session")
def proven(trained: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The same, evaluated by the stage: it may be promoted."""
    shop = trained.copy(tmp_path_factory.mktemp("proven") / "shop")
    shop.evaluate(shop.newest("train"))
    return shop


@pytest.fixture
def good(proven: Shop, tmp_path: Path) -> Shop:
    """A copy of it, to be spoiled."""
    return proven.copy(tmp_path / "shop")


@pytest.fixture
def fresh(trained: Shop, tmp_path: Path) -> Shop:
    """A copy that is trained and not evaluated."""
    return trained.copy(tmp_path / "shop")
