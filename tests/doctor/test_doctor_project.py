"""Checks of a project: room for its checkpoints, and the Redis that it names."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tunewright.doctor.checkpoints import checkpoint_bytes, checkpoints_fact
from tunewright.doctor.services import redis_fact
from tunewright.models import source
from tunewright.serve.config import CacheConfig, JobsConfig
from tunewright.train.config import TrainConfig

SHAPES = [
    ("model.embed_tokens.weight", (100, 8)),
    ("model.layers.0.self_attn.q_proj.weight", (8, 8)),
    ("model.layers.0.mlp.down_proj.weight", (8, 20)),
    ("model.layers.1.self_attn.q_proj.weight", (8, 8)),
    ("model.layers.1.mlp.down_proj.weight", (8, 20)),
    ("model.norm.weight", (8,)),
]
TOTAL = 800 + 2 * (64 + 160) + 8


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ({"name": "full"}, 12 * TOTAL),
        ({"name": "freeze", "layers": 1}, 4 * TOTAL + 8 * (64 + 160)),
        ({"name": "lora", "rank": 4}, 12 * 4 * 2 * (16 + 28)),
        ({"name": "lora", "rank": 4, "targets": ["q_proj"]}, 12 * 4 * 2 * 16),
    ],
    ids=str,
)
def test_a_checkpoint_holds_weights_and_two_moments(method: dict[str, Any], expected: int) -> None:
    train = TrainConfig.model_validate({"method": method})
    assert checkpoint_bytes(train.method, SHAPES) == expected


def test_room_for_the_checkpoints_of_the_project(tiny: Path) -> None:
    train = TrainConfig.model_validate({"method": {"name": "full"}, "keep_checkpoints": 3})
    need = 5 * 12 * source.parameter_count(tiny)
    assert checkpoints_fact(train, tiny, need).verdict == "ok"
    short = checkpoints_fact(train, tiny, need - 1)
    assert short.verdict == "fail" and "train.keep_checkpoints=1" in short.fix
    assert "for 5 checkpoints (3 kept, the best, the one being written) of full" in short.fact


@contextmanager
def server(*answers: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Answers one line after another to whoever connects; what it was sent is kept."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                for answer in answers:
                    seen.append(connection.recv(1000))
                    connection.sendall(answer)

        thread = threading.Thread(target=talk, daemon=True)
        thread.start()
        yield listener.getsockname()[1], seen
        thread.join(5)


def test_a_redis_that_answers() -> None:
    with server(b"+PONG\r\n") as (port, seen):
        fact = redis_fact("serve.jobs.broker", JobsConfig(broker=f"redis://127.0.0.1:{port}/0"))
    assert fact is not None and (fact.verdict, fact.fact) == ("ok", f"serve.jobs.broker: 127.0.0.1:{port} answers")
    assert seen == [b"*1\r\n$4\r\nPING\r\n"]


def test_a_password_is_sent_and_not_shown() -> None:
    with server(b"-WRONGPASS invalid username-password pair\r\n") as (port, seen):
        fact = redis_fact("serve.cache.store", CacheConfig(store=f"redis://me:p%40ss@127.0.0.1:{port}/0"))
    assert seen == [b"*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$4\r\np@ss\r\n"]
    assert fact is not None and fact.verdict == "fail"
    assert "refuses: WRONGPASS" in fact.fact and "p@ss" not in str(fact) and "p%40ss" not in str(fact)
    with server(b"+OK\r\n", b"+PONG\r\n") as (port, seen):
        fact = redis_fact("serve.cache.store", CacheConfig(store=f"redis://:p@127.0.0.1:{port}/0"))
    assert fact is not None and fact.verdict == "ok" and len(seen) == 2


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    for address in (f"redis://127.0.0.1:{port}/0", f"unix://{tmp_path}/no.sock"):
        fact = redis_fact("serve.jobs.broker", JobsConfig(broker=address))
        assert fact is not None and fact.verdict == "fail" and "does not answer" in fact.fact
        assert "start it, or change serve.jobs.broker" in fact.fix


def test_an_address_in_a_variable_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MADE_UP_REDIS", raising=False)
    fact = redis_fact("serve.jobs.broker", JobsConfig(broker="${MADE_UP_REDIS}"))
    assert fact is not None and fact.verdict == "fail" and "MADE_UP_REDIS is not set" in fact.fact


def test_without_a_redis_nothing_is_said() -> None:
    assert redis_fact("serve.cache.store", CacheConfig()) is None
    assert redis_fact("serve.jobs.broker", JobsConfig(broker="embedded")) is None
