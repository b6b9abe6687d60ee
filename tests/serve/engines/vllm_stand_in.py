"""A stand-in that speaks the routes of vLLM's OpenAI server that we use, as its documentation gives them.

It answers `<model>:<number of prompt ids>` letter by letter, then its end token. Some letters in the prompt make it
fail: { (id 90) an error in the stream, | (91) a refusal, } (92) it ends at once, ~ (93) an answer without end. What it
was asked goes to the file of the variable STAND_IN_LOG, one JSON a line.
"""

from __future__ import annotations

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

WORDS = dict(zip(sys.argv[1:], sys.argv[2:], strict=False))
adapters: dict[str, str] = {}


def note(what: str, **facts: Any) -> None:
    with Path(os.environ["STAND_IN_LOG"]).open("a") as log:
        log.write(json.dumps({"what": what, **facts}) + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        if self.path == "/health":
            return self.send(200, None)
        if not self.is_known():
            return None
        rows = [{"id": WORDS["--served-model-name"], "max_model_len": 200}, *({"id": name} for name in adapters)]
        return self.send(200, {"object": "list", "data": rows})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.is_known():
            return None
        note(self.path, body=body)
        if self.path == "/v1/load_lora_adapter":
            adapters[body["lora_name"]] = body["lora_path"]
        elif self.path == "/v1/unload_lora_adapter":
            del adapters[body["lora_name"]]
        elif 91 in body["prompt"]:
            return self.send(400, {"error": {"message": "no", "code": 400}})
        else:
            return self.complete(body)
        return self.send(200, "done")

    def complete(self, body: dict[str, Any]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        prompt, text = body["prompt"], f"{body['model']}:{len(body['prompt'])}"
        if 92 in prompt:
            os._exit(3)
        if 90 in prompt:
            return self.event({"error": {"message": "out of memory"}})
        if 93 in prompt:
            text = "x" * 10_000
        for count, letter in enumerate(text[: body["max_tokens"]], 1):
            is_last = count == body["max_tokens"]
            self.chunk(letter, count, prompt, "length" if is_last else None)
            time.sleep(0.002 if 93 in prompt else 0)
        if len(text) < body["max_tokens"]:
            self.chunk("", len(text) + 1, prompt, "stop")
        usage = {"prompt_tokens": len(prompt), "completion_tokens": min(len(text) + 1, body["max_tokens"])}
        self.event({"choices": [], "usage": usage})
        self.write(b"data: [DONE]\n\n")
        return self.write(b"")

    def chunk(self, text: str, count: int, prompt: list[int], finish: str | None) -> None:
        choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish, "stop_reason": None}
        usage = {"prompt_tokens": len(prompt), "completion_tokens": count, "total_tokens": len(prompt) + count}
        self.event({"object": "text_completion", "choices": [choice], "usage": usage})

    def event(self, value: dict[str, Any]) -> None:
        self.write(b"data: " + json.dumps(value).encode() + b"\n\n")

    def write(self, data: bytes) -> None:
        try:
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        except OSError:
            note("client left")
            raise

    def is_known(self) -> bool:
        known = self.headers.get("Authorization") == "Bearer " + os.environ["VLLM_API_KEY"]
        if not known:
            self.send(401, {"error": "Unauthorized"})
        return known

    def send(self, status: int, value: Any) -> None:
        content = b"" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


if __name__ == "__main__":
    note("start", words=sys.argv[1:], offline=os.environ.get("HF_HUB_OFFLINE"))
    if "broken" in WORDS["--model"]:
        sys.exit("ValueError: the model has no weights")
    ThreadingHTTPServer(("127.0.0.1", int(WORDS["--port"])), Handler).serve_forever()
