"""A tiny model with answers that vary, prompts for it, and a small real server that speaks the chat protocol."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from tunewright.core.chat import Conversation, Message
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.prompts import Prompt, build_prompts
from tunewright.evaluate.systems.cache import NO_CACHE, AnswerCache
from tunewright.evaluate.systems.local import Identity, LocalModel
from tunewright.evaluate.systems.protocol import Asking
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer

LABELS = ["card_lost", "fee"]
CONFIG = EvaluateConfig.model_validate(
    {"metrics": [{"name": "intent", "where": {"metadata.task": "intent"}}, {"name": "bleu"}]}
)
ASKING = Asking(max_new_tokens=12, batch_size=4, labels=tuple(LABELS))


def row(index: int, *, task: str = "answer") -> Conversation:
    text = ["My card is gone", "卡丢了怎么办", "fees?", "Why was I charged twice for one transfer?"][index % 4]
    turns = (Message(role="user", content=f"{text} {index}"), Message(role="assistant", content="fee"))
    return Conversation(id=f"row:{index}", messages=turns, metadata={"task": task, "intent": "fee"})


def varied(folder: Path) -> Any:
    """The tiny model with larger weights: as it comes, it repeats one token."""
    model = load_model(folder, dtype=torch.float32)
    with torch.no_grad():
        for layer in model.model.layers:
            for weight in layer.parameters():
                weight.mul_(12 if weight.dim() == 2 else 1)
    return model


class Counted:
    """A loader that counts how often it is asked."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.loads = folder, 0

    def __call__(self) -> Any:
        self.loads += 1
        return varied(self.folder)


def local(folder: Path, load: Callable[[], Any], cache: AnswerCache = NO_CACHE, *, sha256: str = "one") -> LocalModel:
    tokenizer = ChatTokenizer.load(folder)
    return LocalModel(Identity("base", "base", sha256), tokenizer, load, max_length=512, cache=cache)


def prompts(system: LocalModel | None, rows: Sequence[Conversation]) -> list[Prompt]:
    tokenizer = system.tokenizer if system else None
    return build_prompts(CONFIG, LABELS, rows, tokenizer, system="base", room=400 if system else None)


class ChatService:
    """A real server. replies: from the last user message to the answer; statuses: answered first, one a request;
    seen: (key, body) of every request; raw: a body that is sent instead."""

    def __init__(self) -> None:
        self.replies: Callable[[str], str] = str.upper
        self.statuses: list[int] = []
        self.seen: list[tuple[str | None, dict[str, Any]]] = []
        self.raw: bytes | None = None
        self.silent_s = 0.0
        self.has_usage = True
        self.most_at_once = self._running = 0
        self._lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                with service._lock:
                    service._running += 1
                    service.most_at_once = max(service.most_at_once, service._running)
                try:
                    body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                    status, data = service.handle(self.headers["Authorization"], self.path, body)
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except BrokenPipeError:
                    return  # the client had enough of waiting
                finally:
                    with service._lock:
                        service._running -= 1

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def handle(self, key: str | None, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        with self._lock:
            self.seen.append((key, body))
            status = self.statuses.pop(0) if self.statuses else 200
        time.sleep(self.silent_s)
        if self.raw is not None:
            return 200, self.raw
        if status != 200:
            return status, json.dumps({"error": {"message": f"no, {key} may not"}}).encode()
        assert path == "/v1/chat/completions"
        text = self.replies(body["messages"][-1]["content"])
        reply: dict[str, Any] = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
        if self.has_usage:
            reply["usage"] = {"prompt_tokens": 10, "completion_tokens": 2}
        return 200, json.dumps(reply).encode()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
