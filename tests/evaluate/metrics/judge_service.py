"""A small HTTP server that speaks the protocol of a judge and rules by a rule of the test; answers of two systems."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from model_kit import corpus

from tunewright.core.scoring import Sample
from tunewright.evaluate.corpus import Corpus
from tunewright.evaluate.metrics.judge import Judge
from tunewright.evaluate.metrics.judge_options import JudgeOptions

Rule = Callable[[str, str], str]
"""From both answers, as the judge sees them, to the text of its reply."""
PART = re.compile(r"\[([0-9a-f]{12}) ([^\]]+)\]\n(.*?)\n\[\1 (?:END|结束)\]", re.DOTALL)


class Service:
    """A small server; `seen` holds every request as (path, key, body)."""

    def __init__(self) -> None:
        self.rule: Rule = first
        self.seen: list[tuple[str, str | None, dict[str, Any]]] = []
        self.statuses: list[int] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.seen.append((self.path, self.headers["Authorization"], body))
                status = service.statuses.pop() if service.statuses else 200
                reply = service.reply(body) if status == 200 else {"error": {"message": "no such model"}}
                data = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def reply(self, body: dict[str, Any]) -> dict[str, Any]:
        parts = PART.findall(body["messages"][1]["content"])
        answers = [text for _, name, text in parts if name[-1] in "AB" and name[0] in "A回"]
        return {"choices": [{"message": {"role": "assistant", "content": self.rule(*answers)}}]}

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def said(verdict: str) -> str:
    return json.dumps({"reason": "因为", "verdict": verdict}, ensure_ascii=False)


def first(a: str, b: str) -> str:
    return said("A")


def longer(a: str, b: str) -> str:
    return said("A" if len(a) > len(b) else "B" if len(b) > len(a) else "tie")


def judge(service: Service, **options: Any) -> Judge:
    address = {"base_url": service.url, "model": "judge-1", "retries": 1, **options.pop("address", {})}
    return Judge(JudgeOptions.model_validate({"name": "judge", "address": address, **options}))


def samples(*answers: str, **metadata: str) -> list[Sample]:
    return [
        Sample(id=str(n), prompt=f"Question {n}?", reference="R", prediction=text, metadata=metadata)
        for n, text in enumerate(answers)
    ]


BASE = samples("short", "a long answer here", "same", "", "even")
TUNED = samples("a much longer one", "no", "same ", "something", "mean")


def place(root: Path, system: str = "tuned") -> Corpus:
    return corpus(root, system=system)
