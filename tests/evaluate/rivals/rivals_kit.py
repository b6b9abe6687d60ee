"""A project with data and a trained adapter on builtin:tiny, and its evaluation with rivals."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from tunewright.core import files
from tunewright.core.chat import Conversation, Message
from tunewright.core.runs import Artifact, Output, Workspace, begin
from tunewright.evaluate import exam as exams
from tunewright.evaluate import stage
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.exam import Exam
from tunewright.models import source
from tunewright.models.config import ModelConfig, ModelInfo
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer

MODEL = ModelConfig(path="builtin:tiny", dtype="float32")
LEARNED = "fee"
SAID = {
    "card_lost": ["My card is gone", "I lost my card", "卡丢了", "my card is missing"],
    "fee": ["What does it cost?", "why a fee", "手续费多少", "is there a fee for it"],
    "pin_reset": ["new pin please", "I forgot my pin", "密码忘了怎么办", "change my pin"],
}
LABELS = sorted(SAID)


def row(index: int, *, task: str = "intent", label: str | None = None) -> Conversation:
    label = label or LABELS[index % 3]
    answer = label if task == "intent" else "There is no fee."
    turns = (
        Message(role="user", content=f"{SAID[label][index % 4]} {index}"),
        Message(role="assistant", content=answer),
    )
    return Conversation(id=f"{task}:{index}", messages=turns, metadata={"intent": label, "task": task})


TRAINING = [row(100 + index) for index in range(24)] + [row(200 + index, task="answer") for index in range(4)]
TEST = [row(index) for index in range(12)] + [row(20 + index, task="answer") for index in range(3)]
CONFIG: dict[str, Any] = {
    "metrics": [
        {"name": "intent", "where": {"metadata.task": "intent"}},
        {"name": "bleu", "where": {"metadata.task": "answer"}},
        {"name": "rouge"},
    ],
    "max_new_tokens": 8,
}


def prepared(**changes: Any) -> Exam:
    return exams.prepare(EvaluateConfig.model_validate(CONFIG | changes), TEST, TRAINING, seed=7)


class Project:
    """data and train artifacts; the adapter has learned to answer LEARNED to everything."""

    def __init__(self, root: Path) -> None:
        self.root, self.workspace = root, Workspace(root, "demo")
        self.folder = source.resolve(MODEL, root)
        output = begin(self.workspace, "data", {}, ())
        assert isinstance(output, Output)
        files.write_jsonl(output.path / "train.jsonl", [one.to_row() for one in TRAINING])
        files.write_jsonl(output.path / "test.jsonl", [one.to_row() for one in TEST])
        self.data = output.seal()
        self.train = self._train()

    def _train(self) -> Artifact:
        from peft import LoraConfig, get_peft_model

        output = begin(self.workspace, "train", {}, ())
        assert isinstance(output, Output)
        tokenizer = ChatTokenizer.load(self.folder)
        torch.manual_seed(7)
        layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        settings = LoraConfig(r=8, lora_alpha=32, target_modules=layers, task_type="CAUSAL_LM")
        adapted = get_peft_model(load_model(self.folder, dtype=torch.float32), settings).train()
        optimizer = torch.optim.AdamW((p for p in adapted.parameters() if p.requires_grad), lr=2e-3)
        for step in range(90):
            turns = (*row(step).prompt, Message(role="assistant", content=LEARNED))
            example = tokenizer.examples(row(step).model_copy(update={"messages": turns}), max_length=512)[0]
            labels = torch.tensor([example.labels])
            adapted(input_ids=torch.tensor([example.input_ids]), labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        adapted.save_pretrained(str(output.path / "adapter"))
        info = ModelInfo(
            kind="adapter",
            base=MODEL.path,
            base_revision=MODEL.revision,
            base_sha256=source.weights_sha256(self.folder),
            method="lora",
            dtype="float32",
            bits=32,
            chat_template_sha256=tokenizer.template.sha256,
            max_length=512,
        )
        files.write_json(output.path / "model.json", info.model_dump())
        return output.seal()

    def evaluate(self, **changes: Any) -> Artifact:
        config = EvaluateConfig.model_validate(CONFIG | changes)
        return stage.run(self.workspace, config, model=MODEL, seed=7, data=self.data, train=self.train)


class Knowing:
    """A chat endpoint that knows the right label of every question; `asked` counts its requests."""

    def __init__(self) -> None:
        self.asked = 0
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                service.asked += 1
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                question = body["messages"][-1]["content"].rpartition(" ")[0]
                label = next((label for label, texts in SAID.items() if question in texts), "what?")
                reply = {
                    "choices": [{"message": {"content": label}, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 100, "completion_tokens": 10},
                }
                data = json.dumps(reply).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                """Says nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
