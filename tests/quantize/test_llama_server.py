"""The `llama-server` way, against a stand-in program that speaks the same HTTP."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tunewright.core.errors import MissingExtraError
from tunewright.models.tokens import ChatTokenizer
from tunewright.quantize import llama_server
from tunewright.quantize.engines import LlamaCppEngine
from tunewright.quantize.scheme import QuantizeError

STAND_IN = """#!{python}
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
if "broken" in words["--model"]:
    sys.exit("0.00 E srv load_model: bad magic")
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_): pass
    def send(self, code, value):
        self.send_response(code); self.end_headers(); self.wfile.write(json.dumps(value).encode())
    def do_GET(self): self.send(200, {{"status": "ok"}})
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != "Bearer " + os.environ["LLAMA_API_KEY"]:
            return self.send(401, {{}})
        if 999 in body["prompt"]:
            return self.send(400, {{"error": {{"message": "Prompt contains invalid tokens"}}}})
        ids = [104, 105, 258, 104][: body["n_predict"]]
        tops = [{{"top_logprobs": [{{"id": ids[0], "logprob": -0.5}}]}}]
        self.send(200, {{"tokens": ids, "stop_type": "limit", "completion_probabilities": tops,
                         "timings": {{"prompt_ms": 1.0}}}})
HTTPServer(("127.0.0.1", int(words["--port"])), Handler).serve_forever()
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "llama-server"
    path.write_text(STAND_IN.format(python=sys.executable))
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(llama_server, "find_spec", lambda name: None)
    return path


def test_a_llama_server_on_path_is_used(program: Path, tiny: Path) -> None:
    """The stand-in answers tokens 104, 105, then the end token 258 and one more, which must be cut."""
    tokenizer = ChatTokenizer.load(tiny)
    engine = LlamaCppEngine(tiny / "model.gguf", tokenizer, context=32)
    try:
        (answer,) = engine.answers([[1, 2]], max_new_tokens=4)
        assert answer.text == tokenizer.decode([104, 105]) and answer.new_tokens == 2 and answer.finish == "stop"
        (short,) = engine.answers([[1, 2]], max_new_tokens=2)
        assert short.finish == "length"
        assert engine.top_logprobs([1], count=1) == [(104, -0.5)]
        assert engine.latency([1], new_tokens=3, repeats=2).first_token_s == pytest.approx(0.001)
        with pytest.raises(QuantizeError, match=r"refused a prompt \(400\).*invalid tokens"):
            engine.answers([[999]], max_new_tokens=2)
    finally:
        engine.close()
    with pytest.raises(QuantizeError, match=r"llama\.cpp is gone"):
        engine.answers([[1]], max_new_tokens=2)


def test_a_server_that_ends_at_once_is_told_with_its_reason(program: Path, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(QuantizeError, match=r"cannot load this file: srv load_model: bad magic"):
        LlamaCppEngine(tmp_path / "broken.gguf", ChatTokenizer.load(tiny), context=32)


def test_neither_is_a_missing_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(llama_server, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match=r"needs llama\.cpp") as caught:
        llama_server.open_server(tmp_path / "model.gguf", context=8)
    assert "pip install" in caught.value.fix
