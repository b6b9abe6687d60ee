"""Paraphrase and back-translation through a real HTTP server that answers like the chat completions API."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ConfigError, ResourceError
from tunewright.data.augment import chat_client
from tunewright.data.augment.augmenter import Text
from tunewright.data.augment.engine import augment
from tunewright.data.augment.options import BackTranslationOptions, EndpointOptions, ParaphraseOptions, Server
from tunewright.data.augment.paraphrase import Paraphrase
from tunewright.data.augment.prompts import read_answer
from tunewright.data.augment.translators import EndpointTranslator

KEY = "sk-test-1234567890"


def completion(text, *, finish="stop"):
    message = {"role": "assistant", "content": text}
    return {"object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


class Endpoint:
    """A server whose answers are made by `reply(body) -> (status, value, headers)`; `seen` keeps what was asked."""

    def __init__(self):
        self.seen, self.running, self.most_at_once = [], 0, 0
        self.reply = lambda body: (200, completion("好"), {})
        endpoint, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self._send(200, {"object": "list", "data": [{"id": "served-model"}, {"id": "other"}]}, {})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    endpoint.seen.append((self.path, dict(self.headers), body))
                    endpoint.running += 1
                    endpoint.most_at_once = max(endpoint.most_at_once, endpoint.running)
                try:
                    made = endpoint.reply(body)
                finally:
                    with lock:  # before it is sent: a client that has the answer may ask again at once
                        endpoint.running -= 1
                self._send(*made)

            def _send(self, status, value, headers):
                data = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                for name, text in {"Content-Length": len(data), **headers}.items():
                    self.send_header(name, str(text))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # a client that gave up is part of the tests
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def server(self, **changes):
        return Server(**{"base_url": self.url, "model": "m", "api_key": KEY, "timeout_s": 5, **changes})

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def endpoint():
    made = Endpoint()
    yield made
    made.close()


@pytest.fixture
def waits(monkeypatch):
    """Seconds that the client wanted to sleep; it does not."""
    wanted = []
    monkeypatch.setattr(chat_client, "time", SimpleNamespace(sleep=wanted.append))
    return wanted


def paraphrases(endpoint, texts, *, server=None, **options):
    augmenter = Paraphrase(ParaphraseOptions(server=server or endpoint.server(), **options), Path())
    return augmenter.variants([Text(text, language, 11) for text, language in texts])


def test_answers_keep_their_order_and_their_text(endpoint):
    def slow_for_some(body):
        text = body["messages"][1]["content"]
        time.sleep(0.05 if text.endswith("0") else 0)
        return 200, completion(f"<{text}>"), {}

    endpoint.reply = slow_for_some
    texts = [(f"第{n}句话", "zh") for n in range(20)]
    found = paraphrases(endpoint, texts, server=endpoint.server(concurrency=8))
    assert found == [[f"<{text}>"] for text, _ in texts]
    assert 1 < endpoint.most_at_once <= 8


def test_no_more_requests_at_a_time_than_asked(endpoint):
    def slow(body):
        time.sleep(0.02)
        return 200, completion("好"), {}

    endpoint.reply = slow
    paraphrases(endpoint, [(f"{n}句", "zh") for n in range(12)], server=endpoint.server(concurrency=2))
    assert endpoint.most_at_once == 2


def test_what_is_sent(endpoint):
    paraphrases(endpoint, [("卡丢了", "zh"), ("lost card", "en"), ("perdu", "fr")], copies=2, temperature=0.5)
    assert len(endpoint.seen) == 4, "no prompt is written for French"
    bodies = sorted((body for _, _, body in endpoint.seen), key=lambda body: body["messages"][1]["content"])
    assert {path for path, _, _ in endpoint.seen} == {"/v1/chat/completions"}
    assert {headers["Authorization"] for _, headers, _ in endpoint.seen} == {f"Bearer {KEY}"}
    assert [body["messages"][1] for body in bodies] == [
        {"role": "user", "content": text} for text in ("lost card", "lost card", "卡丢了", "卡丢了")
    ]
    english, chinese = bodies[0]["messages"][0]["content"], bodies[2]["messages"][0]["content"]
    assert "exactly the same meaning" in english
    assert "意思完全不变" in chinese
    assert "{" not in chinese.replace("{}", ""), "the style is filled in"
    assert len({body["seed"] for body in bodies}) > 1
    assert len({body["messages"][0]["content"] for body in bodies}) == 4, "each copy asks for another style"
    assert {(body["model"], body["temperature"], body["max_tokens"]) for body in bodies} == {("m", 0.5, 1024)}


def test_without_a_model_name_the_first_listed_is_asked(endpoint):
    paraphrases(endpoint, [("卡丢了", "zh")], server=endpoint.server(model=None))
    assert endpoint.seen[0][2]["model"] == "served-model"


def test_without_a_key_none_is_sent(endpoint):
    paraphrases(endpoint, [("卡丢了", "zh")], server=endpoint.server(api_key=None))
    assert "Authorization" not in endpoint.seen[0][1]


def test_a_busy_server_is_asked_again(endpoint, waits):
    answers = iter([(429, {"error": {"message": "slow down"}}, {"Retry-After": "3"}), (503, b"", {})])
    endpoint.reply = lambda body: next(answers, (200, completion("卡没了"), {}))
    assert paraphrases(endpoint, [("卡丢了", "zh")]) == [["卡没了"]]
    assert len(endpoint.seen) == 3
    assert waits == [3.0, 1.0], "Retry-After where it is said, else a growing wait"


def test_a_server_that_stays_busy_is_an_error_with_the_number_of_tries(endpoint, waits):
    endpoint.reply = lambda body: (429, {"error": {"message": "quota"}}, {})
    with pytest.raises(ResourceError) as caught:
        paraphrases(endpoint, [("卡丢了", "zh")], server=endpoint.server(retries=2))
    assert f"the endpoint {endpoint.url} answers 429: quota (3 tries)" in str(caught.value)
    assert caught.value.where == "data.augment (paraphrase)"
    assert len(endpoint.seen) == 3


def test_a_slow_server_is_a_timeout(endpoint, waits):
    def slow(body):
        time.sleep(0.6)
        return 200, completion("好"), {}

    endpoint.reply = slow
    with pytest.raises(ResourceError, match=r"cannot be asked: timed out \(2 tries\)"):
        paraphrases(endpoint, [("卡丢了", "zh")], server=endpoint.server(timeout_s=0.1, retries=1))


def test_a_server_that_is_not_there(endpoint, waits):
    gone = endpoint.server(retries=0)
    endpoint.close()
    with pytest.raises(ResourceError, match=r"cannot be asked: .*Connection refused \(1 tries\)"):
        paraphrases(endpoint, [("卡丢了", "zh")], server=gone)


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_not_repeated_and_the_key_is_not_shown(endpoint, waits, status):
    endpoint.reply = lambda body: (status, {"error": {"message": f"Incorrect API key provided: {KEY}."}}, {})
    with pytest.raises(ConfigError) as caught:
        paraphrases(endpoint, [("卡丢了", "zh")])
    assert f"answers {status}: Incorrect API key provided: ***." in str(caught.value)
    assert ("check api_key" in caught.value.fix) == (status == 401)
    assert KEY not in str(caught.value) + repr(caught.value.args)
    assert len(endpoint.seen) == 1
    assert waits == []


GARBAGE = [
    b"<html>hello</html>",
    b"\xff\xfe\x00",
    {"choices": []},
    {"choices": [{"message": {}}]},
    {"choices": [{"message": {"content": ["parts"]}}]},
    [1, 2],
    {"ok": True, "key": KEY},
]


@pytest.mark.parametrize("value", GARBAGE, ids=[str(value)[:20] for value in GARBAGE])
def test_garbage_is_an_error_that_shows_it(endpoint, value):
    endpoint.reply = lambda body: (200, value, {})
    with pytest.raises(ResourceError, match="no chat completion: ") as caught:
        paraphrases(endpoint, [("卡丢了", "zh")])
    assert KEY not in str(caught.value)


def test_a_redirect_is_not_followed(endpoint):
    other = Endpoint()
    try:
        endpoint.reply = lambda body: (307, b"", {"Location": f"{other.url}/chat/completions"})
        with pytest.raises(ConfigError, match="answers 307"):
            paraphrases(endpoint, [("卡丢了", "zh")])
        assert other.seen == [], "the key must not travel to another address"
    finally:
        other.close()


def test_proxies_of_the_environment_are_not_used(endpoint, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert paraphrases(endpoint, [("卡丢了", "zh")]) == [["好"]]


ANSWERS = [
    ("卡没了", "卡丢了", "卡没了"),
    ("<think>\n想想\n</think>\n卡没了", "卡丢了", "卡没了"),
    ("“卡没了”", "卡丢了", "卡没了"),
    ('"I lost it"', "lost", "I lost it"),
    ("“甲”和“乙”", "甲乙", "“甲”和“乙”"),
    ("“停”", "“停”", "“停”"),
    ("  卡没了\n", "卡丢了", "卡没了"),
    ("", "卡丢了", ""),
]


@pytest.mark.parametrize(("answer", "text", "expected"), ANSWERS)
def test_an_answer_is_read_without_its_wrapping(answer, text, expected):
    assert read_answer(answer, text) == expected


def rows(*texts):
    return [
        Conversation(
            id=f"r{n}", messages=(Message(role="user", content=text), Message(role="assistant", content="label"))
        )
        for n, text in enumerate(texts)
    ]


def test_what_an_endpoint_spoils_is_dropped_with_its_reason(endpoint):
    spoiled = {
        "体温37.5度": completion("体温375度"),
        "我没同意": completion("我同意了"),
        "卡丢了怎么办": completion("请您先进行口头申请"),
        "帮我查一下余额": completion("帮我查", finish="length"),
        "附近有网点吗": completion(None),
        "我要销户": completion("1. 我想销户\n2. 请帮我销户"),
        "换手机号": completion("换\ud800手机号"),
        "开户要带什么": completion("开户需要携带什么"),
    }
    endpoint.reply = lambda body: (200, spoiled[body["messages"][1]["content"]], {})
    options = ParaphraseOptions(server=endpoint.server())
    *dropped, variant = augment(rows(*spoiled), [options], seed=1, root=Path())
    assert [result.rule for result in dropped] == [
        "NUMBER",
        "NEGATION",
        "OVERLAP",
        "EMPTY",
        "EMPTY",
        "NUMBER",
        "CHARACTER",
    ]
    assert variant.conversation.id == "r7+paraphrase1"
    assert [turn.content for turn in variant.conversation.messages] == ["开户需要携带什么", "label"]


THERE = {"卡丢了怎么办": "What if the card is lost?", "额度3000元\n够吗": None, "额度3000元": "The limit is 3000 yuan"}
BACK = {
    "What if the card is lost?": "银行卡丢失了怎么办？",
    "The limit is 3000 yuan": "限额是3000元",
    "Enough?": "足够吗",
}


def test_back_translation_goes_there_and_back_line_by_line(endpoint):
    directions = []

    def translate(body):
        system, text = (message["content"] for message in body["messages"])
        directions.append("zh-en" if "from Chinese to English" in system else "en-zh")
        assert ("from English to Chinese" in system) == (directions[-1] == "en-zh")
        assert body["temperature"] == 0.0
        return 200, completion({**THERE, **BACK, "够吗": "Enough?"}[text]), {}

    endpoint.reply = translate
    options = BackTranslationOptions(backend=EndpointOptions(server=endpoint.server(concurrency=1)))
    first, second = augment(rows("卡丢了怎么办", "额度3000元\n够吗"), [options], seed=1, root=Path())
    assert first.conversation.messages[0].content == "银行卡丢失了怎么办？"
    assert second.conversation.messages[0].content == "限额是3000元\n足够吗"
    assert directions == ["zh-en"] * 3 + ["en-zh"] * 3


def test_further_draws_of_a_translation_are_sampled(endpoint):
    EndpointTranslator(EndpointOptions(server=endpoint.server()), Path()).translate(["a"], "en", "zh", draw=1)
    EndpointTranslator(EndpointOptions(server=endpoint.server()), Path()).translate(["a"], "en", "zh", draw=2)
    (_, _, first), (_, _, second) = endpoint.seen
    assert first["temperature"] == second["temperature"] == 0.8
    assert first["seed"] != second["seed"]


def test_texts_of_the_pivot_language_get_no_variant(endpoint):
    options = BackTranslationOptions(backend=EndpointOptions(server=endpoint.server()), pivot="en")
    (dropped,) = augment(rows("I lost my card"), [options], seed=1, root=Path())
    assert (dropped.rule, endpoint.seen) == ("NO_VARIANT", [])
