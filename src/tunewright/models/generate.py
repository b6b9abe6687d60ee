"""The one generation engine: batched, streaming, cancellable. Evaluation, quantization's table, chat and the server
all use it, so what was measured is what is served.

A `RunningBatch` is a set of rows with one key/value cache. Rows join and leave between steps, a prefix shared by all
prompts (a system turn) is computed once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from tunewright.core.events import Progress
from tunewright.models import cache as kv
from tunewright.models.prefix import split
from tunewright.models.tokens import ChatTokenizer

Finish = Literal["stop", "length", "cancelled"]
MIN_SHARED_PREFIX = 8


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Temperature 0 is greedy. `ignore_end` runs to `max_new_tokens` (latency)."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_end: bool = False


@dataclass(eq=False)
class Request:
    """One prompt on its way. `text` never holds an end token or a stop string. Times are seconds since creation."""

    prompt_ids: list[int]
    sampling: Sampling
    on_text: Callable[[str], None] | None = None
    """Called with each new piece of text that can no longer change."""
    cancelled: bool = False
    output_ids: list[int] = field(default_factory=list)
    text: str = ""
    finish: Finish | None = None
    created: float = field(default_factory=time.monotonic)
    first_token_s: float = 0.0
    seconds: float = 0.0
    sent: int = 0
    generator: torch.Generator | None = None


class RunningBatch:
    """Rows that generate together. Not thread-safe: one thread calls `add` and `step`."""

    def __init__(self, model: Any, tokenizer: ChatTokenizer) -> None:
        self.model, self._front = split(model)
        self.tokenizer = tokenizer
        self.rows: list[Request] = []
        self._device = model.device
        self._cache: Any = None
        self._mask = torch.zeros(0, 0, dtype=torch.long, device=self._device)
        self._next = torch.zeros(0, dtype=torch.long, device=self._device)
        self._lengths = torch.zeros(0, dtype=torch.long, device=self._device)
        self._front_length = kv.length(self._front)
        self._prefix: tuple[list[int], kv.Layers] = ([], self._front)

    @torch.inference_mode()
    def share_prefix(self, ids: list[int]) -> None:
        """Computes `ids` once, behind a trained prefix; requests whose prompt starts with them reuse the cache."""
        if ids:
            output = self.model(
                input_ids=torch.tensor([ids], device=self._device),
                past_key_values=kv.cache_of(self._front) if self._front else None,
                use_cache=True,
                logits_to_keep=1,
            )
            self._prefix = (ids, kv.layers_of(output.past_key_values))

    @torch.inference_mode()
    def add(self, requests: Sequence[Request]) -> None:
        """Prefills `requests` together, takes their first token, and joins them to the running rows."""
        if not requests:
            return
        logits, layers, mask = self.prefill([request.prompt_ids for request in requests])
        lengths = torch.tensor([len(request.prompt_ids) for request in requests], device=self._device)
        lengths += self._front_length
        tokens = self._choose(requests, logits)
        if self.rows:
            layers = kv.join(kv.layers_of(self._cache), layers)
            width = max(self._mask.shape[1], mask.shape[1])
            mask = torch.cat([_pad_mask(self._mask, width), _pad_mask(mask, width)])
            tokens, lengths = torch.cat([self._next, tokens]), torch.cat([self._lengths, lengths])
        self.rows, self._cache, self._mask = [*self.rows, *requests], kv.cache_of(layers), mask
        self._next, self._lengths = tokens, lengths
        self._drop_finished()

    @torch.inference_mode()
    def prefill(self, prompts: Sequence[list[int]]) -> tuple[Tensor, kv.Layers, Tensor]:
        """(logits of the last position [B, V], cache, attention mask [B, T]) of left-padded prompts.

        Uses the shared prefix when every prompt starts with it. A trained prefix stands first in every row.
        """
        shared, layers = self._prefix
        if any(prompt[: len(shared)] != shared or len(prompt) == len(shared) for prompt in prompts):
            shared, layers = [], self._front
        start = self._front_length + len(shared)
        width = max(len(prompt) for prompt in prompts) - len(shared)
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        mask = torch.zeros(len(prompts), start + width, dtype=torch.long)
        mask[:, :start] = 1
        for row, prompt in enumerate(prompts):
            own = prompt[len(shared) :]
            ids[row, width - len(own) :] = torch.tensor(own)
            mask[row, start + width - len(own) :] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, start:]
        past = kv.cache_of(kv.repeat(layers, len(prompts))) if layers else None
        output = self.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=past,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float(), kv.layers_of(output.past_key_values), mask

    @torch.inference_mode()
    def step(self) -> None:
        """One token for every running row; finished and cancelled rows leave."""
        self._drop_finished()
        if not self.rows:
            return
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        output = self.model(
            input_ids=self._next[:, None],
            attention_mask=self._mask,
            position_ids=self._lengths[:, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        self._lengths = self._lengths + 1
        self._next = self._choose(self.rows, output.logits[:, -1].float())
        self._drop_finished()

    def _choose(self, requests: Sequence[Request], logits: Tensor) -> Tensor:
        """Next token of each row. logits: [B, V]; returns [B]. Records it in the request."""
        tokens = logits.argmax(-1)
        for row, request in enumerate(requests):
            if request.sampling.temperature > 0:
                tokens[row] = _sample(logits[row], request)
            self._record(request, int(tokens[row]))
        return tokens

    def _record(self, request: Request, token: int) -> None:
        sampling = request.sampling
        request.seconds = time.monotonic() - request.created
        request.first_token_s = request.first_token_s or request.seconds
        if token in self.tokenizer.end_ids and not sampling.ignore_end:
            request.finish = "stop"
        else:
            request.output_ids.append(token)
            request.finish = "length" if len(request.output_ids) >= sampling.max_new_tokens else None
        if request.on_text or request.finish or sampling.stop:
            self._update_text(request)

    def _update_text(self, request: Request) -> None:
        text = self.tokenizer.decode(request.output_ids)
        cut = min((text.find(stop) for stop in request.sampling.stop if stop in text), default=-1)
        if cut >= 0:
            text, request.finish = text[:cut], "stop"
        request.text = text
        if request.on_text:
            safe = len(text) if request.finish else _safe_length(text, request.sampling.stop)
            if safe > request.sent:
                request.on_text(text[request.sent : safe])
                request.sent = safe

    def _drop_finished(self) -> None:
        for request in self.rows:
            if request.cancelled and request.finish is None:
                request.finish = "cancelled"
        keep = [index for index, request in enumerate(self.rows) if request.finish is None]
        if len(keep) == len(self.rows):
            return
        self.rows = [self.rows[index] for index in keep]
        self._mask, self._next, self._lengths = self._mask[keep], self._next[keep], self._lengths[keep]
        unused = int((self._mask.sum(0) == 0).long().cumprod(0).sum()) if keep else 0
        self._mask = self._mask[:, unused:]
        self._cache = kv.cache_of(kv.select(kv.layers_of(self._cache), keep, drop_left=unused)) if keep else None


def generate(
    model: Any,
    tokenizer: ChatTokenizer,
    prompts: Sequence[list[int]],
    sampling: Sampling,
    *,
    batch_size: int = 16,
    label: str = "generating",
) -> list[Request]:
    """Answers for `prompts` in their order. Rows are sorted by length and refilled as others finish."""
    requests = [Request(list(prompt), sampling) for prompt in prompts]
    batch = RunningBatch(model, tokenizer)
    batch.share_prefix(shared_prefix(prompts))
    waiting = sorted(requests, key=lambda request: -len(request.prompt_ids))
    with Progress(label, len(requests)) as progress:
        while waiting or batch.rows:
            free = batch_size - len(batch.rows)
            if waiting and free >= max(1, batch_size // 2):
                batch.add([waiting.pop() for _ in range(min(free, len(waiting)))])
            else:
                batch.step()
            progress.advance(sum(request.finish is not None for request in requests) - progress.done)
    return requests


def shared_prefix(prompts: Sequence[list[int]]) -> list[int]:
    """The longest common start of all prompts, shorter than each; empty when it is not worth a pass."""
    if len(prompts) < 2:
        return []
    first, last = min(prompts), max(prompts)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    length = min(length, min(map(len, prompts)) - 1)
    return list(first[:length]) if length >= MIN_SHARED_PREFIX else []


def _sample(logits: Tensor, request: Request) -> int:
    sampling = request.sampling
    if request.generator is None:
        request.generator = torch.Generator(device=logits.device)
        if sampling.seed is None:
            request.generator.seed()
        else:
            request.generator.manual_seed(sampling.seed)
    probabilities = torch.softmax(logits / sampling.temperature, -1)
    if sampling.top_p < 1:
        ordered, indices = probabilities.sort(descending=True)
        ordered[ordered.cumsum(-1) - ordered > sampling.top_p] = 0
        probabilities = torch.zeros_like(probabilities).scatter(-1, indices, ordered)
    return int(torch.multinomial(probabilities, 1, generator=request.generator))


def _safe_length(text: str, stops: Sequence[str]) -> int:
    """How much of `text` can be shown: not a half character, not the start of a stop string."""
    end = len(text.rstrip("\ufffd"))
    for stop in stops:
        for size in range(min(len(stop) - 1, end), 0, -1):
            if text[:end].endswith(stop[:size]):
                end -= size
                break
    return end


def _pad_mask(mask: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(mask, (width - mask.shape[1], 0))
