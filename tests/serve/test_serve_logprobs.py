"""Log probabilities over real HTTP: against a plain full pass of the model, token by token, whole and streamed."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import serving_kit as kit
import torch
from test_serve_tools import HERMES

from tunewright.core.chat import Message
from tunewright.serve.cache.key import Identity
from tunewright.serve.cache.layers import open_cache
from tunewright.serve.config import CacheConfig
from tunewright.serve.logprobs import Follower, TokenLogprob, cut, entry, top_entry

ASK = "Where is my card? 卡丢了"


@pytest.fixture(scope="module")
def loaded():
    return kit.tiny()


@pytest.fixture(scope="module")
def url(loaded):
    with kit.serving(loaded) as (url, _):
        yield url


def body(**change: Any) -> dict[str, Any]:
    asked = {"model": kit.MODEL, "messages": [{"role": "user", "content": ASK}], "max_tokens": 40, "logprobs": True}
    return asked | {"temperature": 0, "top_logprobs": 4} | change


def choice(url: str, **change: Any) -> dict[str, Any]:
    response = httpx.post(f"{url}/v1/chat/completions", json=body(**change), timeout=kit.DEADLINE_S)
    assert response.status_code == 200, response.text
    return response.json()["choices"][0]


def streamed(url: str, **change: Any) -> tuple[str, list[dict], list[tuple[str, list[dict]]]]:
    """(text, all entries, (text, entries) of each chunk)."""
    response = httpx.post(f"{url}/v1/chat/completions", json=body(stream=True, **change), timeout=kit.DEADLINE_S)
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    found = [json.loads(line)["choices"][0] for line in lines[:-1]]
    chunks = [(one["delta"].get("content") or "", (one["logprobs"] or {"content": []})["content"]) for one in found]
    entries = [one for _, new in chunks for one in new]
    return "".join(text for text, _ in chunks), entries, chunks


def spelled(entries: list[dict]) -> str:
    return b"".join(bytes(one["bytes"]) for one in entries).decode(errors="replace")


@pytest.mark.parametrize("temperature", [0, 1.3])
def test_they_are_what_a_full_pass_says(url, loaded, temperature):
    """log-softmax of the raw logits: neither temperature nor top-p changes them."""
    found = choice(url, temperature=temperature, seed=4, top_p=0.8)
    entries = found["logprobs"]["content"]
    assert len(entries) == 40 and spelled(entries) == found["message"]["content"]
    new = [loaded.tokenizer.token_bytes.pieces.index(bytes(one["bytes"])) for one in entries]
    prompt = loaded.tokenizer.prompt_ids([Message(role="user", content=ASK)])
    with torch.inference_mode():
        logits = loaded.model(input_ids=torch.tensor([prompt + new])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    expected = logits[torch.arange(40), new].tolist()
    assert [one["logprob"] for one in entries] == pytest.approx(expected, abs=1e-4)
    for place, one in enumerate(entries):
        values, tokens = logits[place].topk(4)
        assert [top["logprob"] for top in one["top_logprobs"]] == pytest.approx(values.tolist(), abs=1e-4)
        pieces = [list(loaded.tokenizer.token_bytes.of(int(token))) for token in tokens]
        assert [top["bytes"] for top in one["top_logprobs"]] == pieces
    if temperature:
        assert any(one["logprob"] < one["top_logprobs"][0]["logprob"] for one in entries), "it was drawn"


def test_without_top_logprobs_there_are_only_the_chosen_ones(url):
    entries = choice(url, top_logprobs=None)["logprobs"]["content"]
    assert len(entries) == 40 and all(one["top_logprobs"] == [] for one in entries)
    assert len(choice(url, top_logprobs=20, max_tokens=2)["logprobs"]["content"][0]["top_logprobs"]) == 20
    assert choice(url, logprobs=False, top_logprobs=None)["logprobs"] is None


def test_streamed_ones_are_the_same_and_come_with_their_text(url):
    whole = choice(url)
    text, entries, chunks = streamed(url)
    assert text == whole["message"]["content"] and entries == whole["logprobs"]["content"]
    assert sum(bool(new) for _, new in chunks) > 10, "they come as the text does"
    sent = ""
    for said, new in chunks:
        sent += said
        known = entries[: entries.index(new[-1]) + 1] if new else []
        assert len(spelled(known)) <= len(sent)


def test_a_stop_string_cuts_both(url, loaded):
    whole = choice(url)["message"]["content"]
    stop = whole[14:17]
    before = whole[: whole.index(stop)]
    for text, entries in (
        (lambda one: (one["message"]["content"], one["logprobs"]["content"]))(choice(url, stop=[stop])),
        streamed(url, stop=[stop])[:2],
    ):
        assert text == before and spelled(entries) == before and 0 < len(entries) < 40


def test_a_character_of_several_tokens_is_one_text_and_several_entries():
    """The model says 药 in three tokens; streamed they come in one chunk."""
    loaded = kit.tiny(ends=True)
    model = kit.ScriptedModel(loaded.model._model, [*loaded.tokenizer.encode("a药b"), *loaded.tokenizer.end_ids])
    with kit.serving(type(loaded)(model, loaded.tokenizer, 512)) as (url, _):
        found = choice(url)
        _, entries, chunks = streamed(url)
    said = found["logprobs"]["content"]
    assert [bytes(one["bytes"]) for one in said] == [b"a", b"\xe8", b"\x8d", b"\xaf", b"b"]  # U+836F in UTF-8
    assert [one["token"] for one in said] == ["a", "\ufffd", "\ufffd", "\ufffd", "b"]
    assert found["finish_reason"] == "stop" and spelled(said) == "a药b", "the end token has no entry"
    assert entries == said and [len(new) for text, new in chunks if text] == [1, 3, 1]
    assert said[0]["logprob"] == pytest.approx(0, abs=1e-6)
    assert said[0]["top_logprobs"][1]["logprob"] == -9999, "JSON has no infinity"


def test_beside_a_tool_call_the_entries_are_the_spoken_text():
    """The call is no text of the answer, so its tokens have no entry; streamed the same."""
    loaded = kit.with_template(kit.tiny(ends=True), HERMES)
    text = 'One moment. <tool_call>{"name": "clock", "arguments": {}}</tool_call>'
    model = kit.ScriptedModel(loaded.model._model, [*loaded.tokenizer.encode(text), *loaded.tokenizer.end_ids])
    tools = [{"type": "function", "function": {"name": "clock"}}]
    with kit.serving(type(loaded)(model, loaded.tokenizer, 512)) as (url, _):
        found = choice(url, tools=tools, max_tokens=100)
        said, entries, _ = streamed(url, tools=tools, max_tokens=100)
    assert found["finish_reason"] == "tool_calls" and found["message"]["content"] == said == "One moment."
    assert spelled(found["logprobs"]["content"]) == "One moment." and entries == found["logprobs"]["content"]


def test_kept_answers_keep_theirs_and_the_plain_question_is_another(loaded, tmp_path):
    parts = kit.named(identity=Identity("one"), cache=open_cache(CacheConfig(store="disk"), tmp_path))
    with kit.serving(loaded, parts) as (url, _):

        def told(**change: Any) -> tuple[str, Any]:
            response = httpx.post(f"{url}/v1/chat/completions", json=body(**change), timeout=kit.DEADLINE_S)
            return response.headers["x-cache"], response.json()["choices"][0]["logprobs"]

        assert told(logprobs=None, top_logprobs=None) == ("miss", None)
        first = told()
        assert first[0] == "miss" and len(first[1]["content"]) == 40
        assert told() == ("hit", first[1])
        assert told(top_logprobs=0)[0] == "miss" and told(logprobs=None, top_logprobs=None) == ("hit", None)
        text, entries, _ = streamed(url)
        assert entries == first[1]["content"] and spelled(entries) == text


def entries_of(*pieces: bytes) -> list[TokenLogprob]:
    return [entry(piece, -1.0, [top_entry(piece, -1.0)]) for piece in pieces]


@pytest.mark.parametrize(
    ("pieces", "text", "kept"),
    [
        ([b"ab", b"cd"], "abcd", [b"ab", b"cd"]),
        ([b"ab", b"cd"], "abc", [b"ab", b"c"]),
        ([b"ab", b"cd"], "ab", [b"ab"]),
        ([b"ab", b"cd"], "", []),
        ([b"a\xe4", b"\xb8\xad#", b"#x"], "a中", [b"a\xe4", b"\xb8\xad"]),
        ([b"a", b"\xe4\xb8"], "a\ufffd", [b"a", b"\xe4\xb8"]),
        ([b"a", b"\xe4", b"\xb8"], "a\ufffd", [b"a", b"\xe4", b"\xb8"]),
        ([b"\xe4", b"#", b"#"], "\ufffd", [b"\xe4"]),
        ([b"\xff", b"b#"], "\ufffdb", [b"\xff", b"b"]),
    ],
)
def test_cut_entries_are_exactly_the_text(pieces, text, kept):
    found = cut(entries_of(*pieces), text)
    assert [bytes(one.bytes or ()) for one in found] == kept
    assert b"".join(kept).decode(errors="replace") == text


def test_a_follower_gives_each_entry_once_and_never_ahead_of_the_text():
    entries = entries_of(b"a", b"\xe4", b"\xb8\xad", b"bc", b"#")
    follower = Follower()
    given = [follower.more(entries, sent) for sent in (0, 1, 1, 2, 3, 4, 4)]
    sizes = [len(new) for new in given]
    assert sizes == [0, 1, 0, 2, 0, 1, 0], "bc waits until c is sent; # was never sent"
    assert [one for new in given for one in new] == entries[:4]
