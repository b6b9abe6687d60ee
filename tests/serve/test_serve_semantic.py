"""Kept answers for questions that mean the same, over real HTTP and with a real embedder; what is never compared.

The tiny model's vectors are those of random weights: unrelated English questions are up to 0.984 alike, so it compares
from 0.992 on; QUESTION and PLURAL are 0.997 alike, QUESTION and NEGATED 0.998.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import serving_kit as kit
from numpy.typing import NDArray
from pydantic import ValidationError

from tunewright.core.chat import Message
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.models.generate import Sampling
from tunewright.serve.cache import semantic as layer
from tunewright.serve.cache.embed import Embedder, open_embedder
from tunewright.serve.cache.floor import BLIND, floors, in_words, least_cosines
from tunewright.serve.cache.index import Known, VectorIndex
from tunewright.serve.cache.key import Identity
from tunewright.serve.cache.layers import AnswerCache, open_cache
from tunewright.serve.cache.semantic import Semantic
from tunewright.serve.cache.stores import DiskStore
from tunewright.serve.config import CacheConfig, SemanticConfig, ServeConfig
from tunewright.serve.desk import is_plain
from tunewright.serve.engine import TransformersEngine
from tunewright.serve.question import Question
from tunewright.serve.reply import Reply
from tunewright.serve.server import Server, in_thread
from tunewright.serve.warm import warm

QUESTION = "How do I get a card with a PIN?"
PLURAL = "How do I get cards with a PIN?"
NEGATED = "How do I get a card without a PIN?"
CHINESE = "我可以在网上提前还款吗？"
UNMARKED = "我可以在网上提前还款吗"
REPLY = Reply("yes", (), "stop", 5, 1)
TINY: dict[str, Any] = {"embedder": "builtin:tiny"}


@contextlib.contextmanager
def served(
    folder: Path, *, loaded: Any = None, keys: Any = None, identity: str = "one", **cached: Any
) -> Iterator[Any]:
    """(url, cache, lines of the log) of a server that compares by meaning."""
    cache = open_cache(CacheConfig(**{"store": "disk", "semantic": TINY, **cached}), folder, tell=lambda _: None)
    assert cache is not None
    config = ServeConfig(port=0, shutdown_timeout_s=5, **({"api_keys": keys} if keys else {}))
    engine = TransformersEngine(lambda: loaded or kit.tiny(), batch_size=8, queue=64)
    lines: list[str] = []
    parts = kit.named(identity=Identity(identity), cache=cache)
    with in_thread(Server(engine, config, parts, log=lines.append)) as url:
        yield url, cache, lines


def ask(url: str, text: str, change: Any = None, *, before: Sequence[Any] = (), **headers: str) -> httpx.Response:
    messages = [*before, {"role": "user", "content": text}]
    body = {"model": kit.MODEL, "messages": messages, "max_tokens": 6, "temperature": 0} | (change or {})
    response = httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=kit.DEADLINE_S)
    assert response.status_code == 200, response.text
    return response


def how(response: httpx.Response) -> str:
    return response.headers["x-cache"]


def known(cache: AnswerCache, count: int) -> None:
    assert cache.semantic is not None
    index = cache.semantic._index
    kit.until(lambda: len(index) == count, f"{count} questions are kept for comparison")


def test_a_paraphrase_hits_and_its_negation_does_not(tmp_path: Path) -> None:
    loaded = kit.tiny()
    with served(tmp_path, loaded=loaded) as (url, cache, lines):
        first = ask(url, QUESTION)
        assert how(first) == "miss"
        known(cache, 1)
        passes = loaded.model.passes
        alike, streamed = ask(url, PLURAL), ask(url, PLURAL, {"stream": True})
        assert loaded.model.passes == passes
        assert how(alike) == how(streamed) == "semantic;similarity=0.997"
        assert alike.json()["choices"][0]["message"] == first.json()["choices"][0]["message"]
        assert how(ask(url, QUESTION)) == "hit", "the letter comes before the meaning"
        assert how(ask(url, NEGATED)) == "miss;similarity=0.998;refused=negation"
        assert loaded.model.passes > passes
        assert how(ask(url, "Where is Rome?")).startswith("miss;similarity=0."), "not alike: no guard was asked"
        assert how(ask(url, CHINESE)).startswith("miss")
        known(cache, 4)
        assert how(ask(url, UNMARKED)) == "semantic;similarity=0.995"
        page = httpx.get(f"{url}/metrics").text
    assert 'cache_lookups_total{result="semantic"} 3.0' in page
    assert any("cache=semantic;similarity=0.997" in line for line in lines)
    assert not any("PIN" in line for line in lines)


def test_everything_but_the_last_message_must_be_the_same(tmp_path: Path) -> None:
    system, other = {"role": "system", "content": "Be brief."}, {"role": "system", "content": "Be kind."}
    with served(tmp_path) as (url, cache, _):
        ask(url, QUESTION, before=[system])
        known(cache, 1)
        assert how(ask(url, PLURAL, before=[system])).startswith("semantic")
        for change, before in (
            ({}, [other]),
            ({}, []),
            ({"max_tokens": 5}, [system]),
            ({"stop": "x"}, [system]),
            ({"temperature": 0.5, "seed": 1}, [system]),
        ):
            assert how(ask(url, PLURAL, change, before=before)) == "miss"
        assert how(ask(url, PLURAL, {"temperature": 1.0}, before=[system])) == "skip"
        assert how(ask(url, PLURAL, before=[system], **{"Cache-Control": "no-store"})) == "skip"
        assert how(ask(url, PLURAL, before=[system], **{"Cache-Control": "no-cache"})) == "miss"


def test_tenants_are_apart_and_warming_counts_what_is_known(tmp_path: Path) -> None:
    with served(tmp_path, keys={"ann": "k1", "bob": "k2"}) as (url, cache, _):
        ann, bob = {"Authorization": "Bearer k1"}, {"Authorization": "Bearer k2"}
        ask(url, QUESTION, **ann)
        known(cache, 1)
        assert how(ask(url, PLURAL, **bob)) == "miss"
        assert how(ask(url, PLURAL, **ann)).startswith("semantic")
        request = {"messages": [{"role": "user", "content": PLURAL}], "max_tokens": 6, "temperature": 0}
        done = warm(url, kit.MODEL, [request], keys=["k1"], concurrency=1)
        assert (done.new, done.known, done.failed) == (0, 1, ())


def test_questions_outlive_the_server_but_not_a_promotion(tmp_path: Path) -> None:
    with served(tmp_path) as (url, cache, _):
        ask(url, QUESTION)
        known(cache, 1)
        kit.until(lambda: not cache.semantic._works, "it is on disk")
    with served(tmp_path, identity="two") as (url, cache, _):
        assert how(ask(url, PLURAL)) == "miss"
    with served(tmp_path) as (url, cache, _):
        assert how(ask(url, PLURAL)) == "semantic;similarity=0.997"


def test_it_is_off_unless_asked_for(tmp_path: Path) -> None:
    assert CacheConfig().semantic is None
    with served(tmp_path, semantic=None) as (url, cache, _):
        assert cache.semantic is None
        assert [how(ask(url, text)) for text in (QUESTION, PLURAL)] == ["miss", "miss"]


def test_an_answer_that_is_gone_is_forgotten() -> None:
    async def go() -> None:
        cache = open_cache(CacheConfig(store="memory", semantic=TINY, capacity=1), Path(), tell=lambda _: None)
        assert cache is not None and cache.semantic is not None
        cache.put("a", REPLY)
        cache.semantic.put("a", "all else", QUESTION)
        await asyncio.gather(*cache.semantic._works)
        reply, told = await cache.get_alike("all else", PLURAL)
        assert reply == REPLY and told == ";similarity=0.997"
        cache.put("b", REPLY)  # there is room for one answer
        assert await cache.get_alike("all else", PLURAL) == (None, "")
        assert len(cache.semantic._index) == 0
        cache.close()

    asyncio.run(go())


def test_long_messages_and_other_languages_are_not_compared() -> None:
    async def go() -> None:
        config = SemanticConfig(**TINY, max_chars=40)
        compared = Semantic(config, open_embedder("builtin:tiny", Path()), None, ttl_s=10, tell=lambda _: None)
        for number, text in enumerate((QUESTION, QUESTION + " I ask for a friend", "Comment bloquer ma carte ?", " ")):
            compared.put(str(number), "c", text)
        await asyncio.gather(*compared._works)
        assert await compared.find("c", QUESTION + " I ask for a friend") is None
        assert await compared.find("c", "Comment bloquer ma carte ?") is None
        found = await compared.find("c", QUESTION)
        assert found is not None and found.key == "0"
        compared.close()

    asyncio.run(go())


@pytest.mark.parametrize(
    ("sampling", "last", "tools", "wanted"),
    [
        (Sampling(), Message(role="user", content="Who?"), None, True),
        (Sampling(temperature=1.0, seed=3, stop=("x",)), Message(role="user", content="Who?"), None, True),
        (Sampling(temperature=1.0), Message(role="user", content="Who?"), None, False),
        (Sampling(logprobs=2), Message(role="user", content="Who?"), None, False),
        (Sampling(json_schema='{"type": "object"}'), Message(role="user", content="Who?"), None, False),
        (Sampling(), Message(role="user", content="Who?"), [{"type": "function"}], False),
        (Sampling(), Message(role="tool", content="12"), None, False),
        (Sampling(), Message(role="user", content=""), None, False),
    ],
)
def test_which_requests_are_plain(sampling: Sampling, last: Message, tools: Any, wanted: bool) -> None:
    assert is_plain(Question([last], sampling, False, tools)) is wanted


def test_the_index_is_bounded_and_keeps_contexts_apart() -> None:
    def at(degrees: float) -> NDArray[np.float32]:
        return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], np.float32)

    index = VectorIndex(3, 2)
    for key, context, degrees in (("a", "x", 0), ("b", "x", 30), ("c", "y", 1)):
        index.put(Known(key, context, key), at(degrees))
    found = index.nearest("x", at(10), 5)
    assert [one.key for one, _ in found] == ["a", "b"]
    assert found[0][1] == pytest.approx(np.cos(np.radians(10)), abs=1e-6)
    assert [one.key for one, _ in index.nearest("x", at(29), 1)] == ["b"]
    assert index.nearest("z", at(0), 5) == []
    index.touch("a")
    index.put(Known("d", "x", "d"), at(60))
    assert len(index) == 3 and [one.key for one, _ in index.nearest("x", at(30), 5)] == ["a", "d"], "b is the oldest"
    index.put(Known("a", "y", "again"), at(2))
    assert [one.text for one, _ in index.nearest("y", at(2), 1)] == ["again"] and len(index) == 3
    index.remove("nobody")


class Counting:
    """An embedder's model whose vectors are counts of letters; it can be held, and told to fail."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.fault: Exception | None = None

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.gate.wait(kit.DEADLINE_S)
        self.asked += texts
        if self.fault is not None:
            raise self.fault
        letters = [ord(letter) for text in texts for letter in text]
        return np.bincount(np.array(letters) % 64, minlength=64).astype(np.float32)[None]


def test_one_question_is_embedded_once_for_all_who_ask_it() -> None:
    async def go() -> None:
        model = Counting()
        embedder = Embedder(model, "counting")
        model.asked.clear()
        found = await asyncio.gather(*(embedder.vector("one") for _ in range(20)))
        assert model.asked == ["one"] and all(vector is found[0] for vector in found)
        assert float(np.linalg.norm(found[0])) == pytest.approx(1)
        model.gate.clear()
        gone, stays = (asyncio.ensure_future(embedder.vector("two")) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        model.gate.set()
        assert len(await stays) == 64 and model.asked == ["one", "two"]
        embedder.close()

    asyncio.run(go())


def test_a_failing_or_slow_embedder_costs_a_match_and_never_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def go() -> None:
        said: list[str] = []
        model = Counting()
        compared = Semantic(SemanticConfig(embedder="x"), Embedder(model, "counting"), None, ttl_s=9, tell=said.append)
        model.fault = RuntimeError(QUESTION)
        assert await compared.find("c", QUESTION) is None
        assert len(said) == 1 and "the embedder failed (RuntimeError)" in said[0] and QUESTION not in said[0]
        before = len(model.asked)
        assert await compared.find("c", QUESTION) is None
        assert len(model.asked) == before, "it rests"
        compared._rests_until, model.fault = 0.0, None
        model.gate.clear()
        monkeypatch.setattr(layer, "PATIENCE_S", 0.05)
        started = time.monotonic()
        assert await compared.find("c", PLURAL) is None
        assert time.monotonic() - started < 5 and "TimeoutError" in said[-1]
        model.gate.set()
        compared.close()

    asyncio.run(go())


def test_the_threshold_is_raised_to_what_the_embedder_can_tell() -> None:
    assert least_cosines(0.97, {"en": 0.5, "zh": 0.96}) == {"en": 0.97, "zh": pytest.approx(0.98)}
    assert least_cosines(0.5, {"en": BLIND, "zh": 0.2}) == {"zh": pytest.approx(0.6)}
    blind = floors(lambda text: np.array([1, 0] if text.isascii() else [0.6, 0.8], np.float32))
    assert blind == {"en": pytest.approx(1), "zh": pytest.approx(1)}
    assert in_words({"en": 0.97}) == (
        "serve: the embedder compares questions in English from a cosine of 0.970 on,"
        " not in Chinese, which it cannot read"
    )


def test_the_disk_lists_questions_of_one_embedder_in_their_order(tmp_path: Path) -> None:
    disk = DiskStore(tmp_path, 1_000_000)
    for key in ("question:m1:b", "answer", "question:m2:c", "question:m1:a"):
        disk.put(key, key, 100)
    disk.put("question:m1:gone", "gone", -1)
    assert list(disk.listed("question:m1:")) == ["question:m1:b", "question:m1:a"]
    said: list[str] = []
    embedder = Embedder(Counting(), "m1")
    assert len(Semantic(SemanticConfig(embedder="x"), embedder, disk, ttl_s=9, tell=said.append)._index) == 0
    assert len(said) == 1 and "could not be read" in said[0], "a damaged record costs matches, never the start"


def test_a_shared_store_shares_answers_and_each_server_compares_its_own_questions(tmp_path: Path) -> None:
    shared = open_cache(CacheConfig(store="redis://127.0.0.1:1/0", semantic=TINY), tmp_path, tell=lambda _: None)
    assert shared is not None and shared.semantic is not None and shared.semantic._store is None
    shared.close()


def test_settings_that_cannot_work_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="embedder"):
        CacheConfig.model_validate({"semantic": {}})
    with pytest.raises(ValidationError, match="semantic compares with kept answers, and store is off"):
        CacheConfig.model_validate({"store": "off", "semantic": TINY})
    for path in ("somebody/some-model", "missing"):
        with pytest.raises(ConfigError, match="there is no embedding model at") as caught:
            open_embedder(path, tmp_path)
        assert caught.value.where == "serve.cache.semantic.embedder"
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((kit.tiny_folder() / name).read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ArtifactError, match="a pickle file, which can run code"):
        open_embedder(str(tmp_path), Path())
