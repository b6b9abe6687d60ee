"""A small model that speaks plain letters, one token each, as a folder and as a GGUF file of the same weights; and a
server over each engine that serves it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import serving_kit as kit
import torch

from tunewright.core import files
from tunewright.models import tiny
from tunewright.models.load import for_inference, load_model
from tunewright.models.tokens import ChatTokenizer
from tunewright.serve.choose import Files
from tunewright.serve.config import ServeConfig
from tunewright.serve.engine import TransformersEngine
from tunewright.serve.engines.config import LlamaCppOptions, RemoteOptions
from tunewright.serve.engines.http_engine import Place, UpstreamEngine
from tunewright.serve.engines.llama_cpp import LlamaUpstream
from tunewright.serve.engines.remote import RemoteUpstream
from tunewright.serve.fleet import RunningEngine
from tunewright.serve.prepared import Loaded
from tunewright.serve.server import Server, in_thread

CONTEXT = 4096
BOS, END = "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.content == 'refuse me' %}{{ raise_exception('not this') }}{% endif %}"
    "{{ m.role + ': ' + m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
LETTERS = [*range(0, 94)]
"""Ids of the printable ASCII characters but the blank, in the byte tokenizer."""
LAYERS, WIDTH = 4, 256


def write_model(folder: Path, *, ends: bool) -> Path:
    """A random Llama that only says letters; with `ends` it also ends its answers now and then."""
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    write_tokenizer(folder)
    config = LlamaConfig(
        vocab_size=259,
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=257,
        eos_token_id=258,
        pad_token_id=256,
    )
    model = LlamaForCausalLM(config)
    drawn = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                weight.copy_(torch.randn(weight.shape, generator=drawn) / weight.shape[1] ** 0.5)
            if "embed" in name:
                weight.mul_(8)
        head = model.lm_head.weight
        kept = torch.zeros(259, 1)
        kept[LETTERS] = 9.0  # so that nothing else is ever drawn
        kept[258] = 14.0 if ends else 0.0
        head.mul_(kept)
    model.generation_config = GenerationConfig(eos_token_id=258, bos_token_id=257, pad_token_id=256)
    model.save_pretrained(folder)
    return folder


def write_tokenizer(folder: Path) -> Path:
    """A byte tokenizer that adds a BOS, as the template does."""
    folder.mkdir(parents=True)
    tiny.write_tokenizer(folder)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"model_max_length": CONTEXT, "chat_template": TEMPLATE, "add_bos_token": True}
    files.write_json(folder / "tokenizer_config.json", settings)
    return folder


def write_gguf(folder: Path, target: Path) -> Path:
    """The same weights, unrounded."""
    from tunewright.quantize import gguf_file
    from tunewright.quantize.gguf_tokenizer import read_tokenizer
    from tunewright.quantize.gguf_types import Layout

    model = load_model(folder, dtype=torch.float32)
    tokenizer = read_tokenizer(folder, vocabulary=259)
    layout = Layout(gguf_file.UNROUNDED, LAYERS, tied=False)
    gguf_file.write_gguf(model, tokenizer, folder, target, layout=layout, name="letters")
    return target


@dataclass(frozen=True)
class Model:
    """One model in both forms. gguf: None where the quantize extra is not installed."""

    folder: Path
    gguf: Path | None
    tokenizer: ChatTokenizer

    @classmethod
    def made(cls, folder: Path, *, ends: bool, gguf: bool) -> Model:
        write_model(folder, ends=ends)
        written = write_gguf(folder, folder / "model.gguf") if gguf else None
        return cls(folder, written, ChatTokenizer.load(folder))

    def load(self) -> Loaded:
        model: Any = for_inference(load_model(self.folder, dtype=torch.float32))
        return Loaded(model, self.tokenizer, CONTEXT)

    def files(self) -> Files:
        return Files(self.folder, self.tokenizer, self.gguf)


def engine(name: str, model: Model, place: Place, url: str = "") -> RunningEngine:
    """The engine of this name, not started. url: of the server behind a remote one."""
    if name == "transformers":
        return TransformersEngine(model.load, batch_size=place.batch_size, queue=place.queue, say=place.say)
    if name == "llamacpp":
        options = LlamaCppOptions(context=CONTEXT, threads=1)
        return UpstreamEngine(LlamaUpstream(model.files, options, slots=place.batch_size), place)
    behind = RemoteOptions(url=f"{url}/v1", honours=("seed",))
    return UpstreamEngine(RemoteUpstream(behind), place)


@contextlib.contextmanager
def serving(name: str, model: Model, **settings: Any) -> Iterator[tuple[str, RunningEngine]]:
    """(URL, engine) of a running server over the engine `name`; a remote one stands in front of our own."""
    config = ServeConfig(port=0, **{"shutdown_timeout_s": 5, "batch_size": 4, "max_new_tokens": 4000, **settings})
    place = Place(config.batch_size, config.queue, lambda _: None)
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(serving("transformers", model))[0] if name == "remote" else ""
        made = engine(name, model, place, url)
        yield stack.enter_context(in_thread(Server(made, config, kit.named(), log=lambda _: None))), made
