"""Rows that generate together with one key/value cache. Rows join and leave between steps, a prefix shared by all
prompts (a system turn) is computed once, and a long prompt is computed piece by piece while the others go on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tunewright.models import cache as kv
from tunewright.models.forward import pass_of
from tunewright.models.prefix import split
from tunewright.models.request import Request, next_tokens, safe_length
from tunewright.models.tokens import ChatTokenizer


@dataclass(eq=False)
class Joining:
    """Prompts on their way into the batch. ids: [B, W], left-padded; mask: [B, start + W] with the `start` columns of
    a shared prefix in front; `done` of the W columns are computed; logits: [B, V] after the last one. rows: which of
    the B prompts is each request's, as the same prompt is computed once."""

    requests: list[Request]
    rows: list[int]
    ids: Tensor
    mask: Tensor
    start: int
    state: Any
    done: int = 0
    logits: Tensor | None = None


class RunningBatch:
    """Rows that generate together. Not thread-safe: one thread calls `add` and `step`.

    `computes_once = False` computes a prompt that several requests of one `begin` share for each of them.
    """

    computes_once = True

    def __init__(self, model: Any, tokenizer: ChatTokenizer) -> None:
        self.model, self._front = split(model)
        self.forward = pass_of(self.model)
        self.tokenizer = tokenizer
        self.rows: list[Request] = []
        self._device = model.device
        self._state: Any = None
        self._mask = torch.zeros(0, 0, dtype=torch.long, device=self._device)
        self._next = torch.zeros(0, dtype=torch.long, device=self._device)
        self._lengths = torch.zeros(0, dtype=torch.long, device=self._device)
        self._front_length = kv.length(self._front)
        self._prefix: tuple[list[int], kv.Layers] = ([], self._front)

    @torch.inference_mode()
    def share_prefix(self, ids: list[int]) -> None:
        """Computes `ids` once, behind a trained prefix; requests whose prompt starts with them reuse the cache."""
        if ids:
            start = self._front_length
            positions = torch.arange(start, start + len(ids), device=self._device)[None]
            sees = torch.ones(1, start + len(ids), dtype=torch.long, device=self._device)
            state = self.forward.state(self._front)
            _, state = self.forward(torch.tensor([ids], device=self._device), sees, positions, state, last_only=True)
            self._prefix = (ids, self.forward.layers(state))

    def add(self, requests: Sequence[Request]) -> None:
        """Prefills `requests` together, takes their first token, and joins them to the running rows."""
        if requests:
            joining = self.begin(requests)
            while not self.advance(joining, joining.ids.numel()):
                pass

    def prefill(self, prompts: Sequence[list[int]]) -> tuple[Tensor, kv.Layers, Tensor]:
        """(logits of the last position [B, V], cache, attention mask [B, T]) of left-padded prompts.

        Uses the shared prefix when every prompt starts with it. A trained prefix stands first in every row.
        """
        joining = self._begin([], prompts, [])
        logits = self._compute(joining, joining.ids.shape[1])
        assert logits is not None
        return logits, self.forward.layers(joining.state), joining.mask

    def begin(self, requests: Sequence[Request]) -> Joining:
        """Requests that `advance` will compute and join."""
        places: dict[object, int] = {}
        keys = [tuple(one.prompt_ids) if self.computes_once else place for place, one in enumerate(requests)]
        rows = [places.setdefault(key, len(places)) for key in keys]
        prompts = [requests[rows.index(row)].prompt_ids for row in range(len(places))]
        return self._begin(list(requests), prompts, rows)

    def advance(self, joining: Joining, tokens: int) -> bool:
        """Computes about `tokens` more (padded) tokens of the prompts; once all are computed, takes the first token of
        each and joins them to the running rows. Whether they have joined."""
        logits = self._compute(joining, max(1, tokens // len(joining.ids)))
        if logits is None:
            return False
        self._join(joining, logits)
        return True

    def _begin(self, requests: list[Request], prompts: Sequence[list[int]], rows: list[int]) -> Joining:
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
        state = self.forward.state(kv.repeat(layers, len(prompts)) if layers else [])
        return Joining(requests, rows, ids.to(self._device), mask.to(self._device), start, state)

    @torch.inference_mode()
    def _compute(self, joining: Joining, columns: int) -> Tensor | None:
        """The next `columns` of the prompts; the logits [B, V] after them when they were the last."""
        begin, end = joining.done, min(joining.done + columns, joining.ids.shape[1])
        sees = joining.mask[:, : joining.start + end]
        positions = (sees.cumsum(1) - 1).clamp(min=0)[:, joining.start + begin :]
        logits, joining.state = self.forward(joining.ids[:, begin:end], sees, positions, joining.state, last_only=True)
        joining.done = end
        return logits[:, -1].float() if end == joining.ids.shape[1] else None

    @torch.inference_mode()
    def _join(self, joining: Joining, logits: Tensor) -> None:
        requests, state, mask = joining.requests, joining.state, joining.mask
        if len(requests) > len(mask):  # each goes its own way from here on
            state = self.forward.select(state, joining.rows, drop_left=0)
            mask, logits = mask[joining.rows], logits[joining.rows]
        lengths = mask.sum(1)
        tokens = self._choose(requests, logits)
        if self.rows:
            state = self.forward.join(self._state, state)
            width = max(self._mask.shape[1], mask.shape[1])
            mask = torch.cat([_pad_mask(self._mask, width), _pad_mask(mask, width)])
            tokens, lengths = torch.cat([self._next, tokens]), torch.cat([self._lengths, lengths])
        self.rows, self._state, self._mask = [*self.rows, *requests], state, mask
        self._next, self._lengths = tokens, lengths
        self._drop_finished()

    @torch.inference_mode()
    def step(self) -> None:
        """One token for every running row; finished and cancelled rows leave."""
        self._drop_finished()
        if not self.rows:
            return
        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        logits, self._state = self.forward(
            self._next[:, None], self._mask, self._lengths[:, None], self._state, last_only=True
        )
        self._lengths = self._lengths + 1
        self._next = self._choose(self.rows, logits[:, -1].float())
        self._drop_finished()

    def _choose(self, requests: Sequence[Request], logits: Tensor) -> Tensor:
        """Next token of each row. logits: [B, V]; returns [B]. Records it in the request."""
        tokens = next_tokens(requests, logits)
        for request, token in zip(requests, tokens.tolist(), strict=True):
            self._record(request, token)
        return tokens

    def _record(self, request: Request, token: int) -> None:
        if request.fault:
            return
        sampling = request.sampling
        request.seconds = time.monotonic() - request.created
        request.first_token_s = request.first_token_s or request.seconds
        if token in self.tokenizer.end_ids and not sampling.ignore_end:
            request.finish = "stop"
        else:
            request.output_ids.append(token)
            request.finish = "length" if len(request.output_ids) >= sampling.max_new_tokens else None
            if request.constraint is not None and request.constraint.is_over:
                request.finish = "stop"
        if request.on_text or request.finish or sampling.stop:
            self._update_text(request)

    def _update_text(self, request: Request) -> None:
        text = self.tokenizer.decode(request.output_ids)
        cut = min((text.find(stop) for stop in request.sampling.stop if stop in text), default=-1)
        if cut >= 0:
            text, request.finish = text[:cut], "stop"
        request.text = text
        if request.on_text:
            safe = len(text) if request.finish else safe_length(text, request.sampling.stop)
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
        self._state = self.forward.select(self._state, keep, drop_left=unused) if keep else None


def _pad_mask(mask: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(mask, (width - mask.shape[1], 0))
