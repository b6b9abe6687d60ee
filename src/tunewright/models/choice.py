"""Constrained choice: which of the given answers a model finds most probable after a prompt.

Exact, but without scoring every answer: the log-probability of an answer's first tokens bounds the whole answer's
from above, so the search (best first over the tree of answers) stops when the best whole answer beats every bound.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tunewright.core.events import Progress
from tunewright.models import cache as kv
from tunewright.models.generate import RunningBatch, shared_prefix
from tunewright.models.tokens import ChatTokenizer

Path = tuple[int, ...]


@dataclass
class _Search:
    """Best-first search of one prompt. `open` holds (-log probability, path of answer tokens)."""

    open: list[tuple[float, Path]] = field(default_factory=list)
    answer: Path | None = None


def choose(
    model: Any,
    tokenizer: ChatTokenizer,
    prompts: Sequence[list[int]],
    answers: Sequence[Path],
    *,
    batch_size: int = 32,
    label: str = "constrained choice",
) -> list[int]:
    """For each prompt the index of the most probable of `answers` (token ids, each with its end token).

    With the end token every answer is a complete one, so lengths need no correction.
    """
    children = _tree(answers)
    index_of = {answer: index for index, answer in enumerate(answers)}
    batch = RunningBatch(model, tokenizer)
    batch.share_prefix(shared_prefix(prompts))
    chosen: list[int] = [-1] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]))
    with Progress(label, len(prompts)) as progress:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            for row, answer in zip(
                rows, _search(batch, [prompts[row] for row in rows], children, index_of), strict=True
            ):
                chosen[row] = index_of[answer]
            progress.advance(len(rows))
    return chosen


def _tree(answers: Sequence[Path]) -> dict[Path, list[int]]:
    children: dict[Path, set[int]] = {}
    for answer in answers:
        for length in range(len(answer)):
            children.setdefault(answer[:length], set()).add(answer[length])
    return {path: sorted(tokens) for path, tokens in children.items()}


@torch.inference_mode()
def _search(
    batch: RunningBatch, prompts: list[list[int]], children: dict[Path, list[int]], answers: dict[Path, int]
) -> list[Path]:
    logits, layers, mask = batch.prefill(prompts)
    searches = [_Search() for _ in prompts]
    for row, search in enumerate(searches):
        _expand(search, (), 0.0, logits[row], children)
    while active := [row for row, search in enumerate(searches) if _advance(search, answers)]:
        best = [searches[row].open[0] for row in active]
        found = _path_logits(batch, [path for _, path in best], kv.select(layers, active), mask[active])
        for row, (cost, path), row_logits in zip(active, best, found, strict=True):
            heapq.heappop(searches[row].open)
            _expand(searches[row], path, cost, row_logits, children)
    return [search.answer or () for search in searches]


def _advance(search: _Search, answers: dict[Path, int]) -> bool:
    """Whether the search must go on; a whole answer on top of the heap beats every bound."""
    if search.answer is None and search.open[0][1] in answers:
        search.answer = search.open[0][1]
    return search.answer is None


def _expand(search: _Search, path: Path, cost: float, logits: Tensor, children: dict[Path, list[int]]) -> None:
    """Puts the continuations of `path` on the heap. logits: [V]."""
    log_probabilities = torch.log_softmax(logits, -1)[children[path]].tolist()
    for token, value in zip(children[path], log_probabilities, strict=True):
        heapq.heappush(search.open, (cost - value, (*path, token)))


def _path_logits(batch: RunningBatch, paths: list[Path], layers: kv.Layers, mask: Tensor) -> Tensor:
    """Logits [B, V] after each path on top of each row's prompt; paths are padded on the right."""
    width = max(map(len, paths))
    ids = torch.tensor([[*path, *[0] * (width - len(path))] for path in paths], device=mask.device)
    used = torch.tensor([[1] * len(path) + [0] * (width - len(path)) for path in paths], device=mask.device)
    positions = mask.sum(1, keepdim=True) + torch.arange(width, device=mask.device)
    output = batch.model(
        input_ids=ids,
        attention_mask=torch.cat([mask, used], 1),
        position_ids=positions,
        past_key_values=kv.cache_of(layers),
        use_cache=True,
    )
    last = torch.tensor([len(path) - 1 for path in paths], device=mask.device)
    logits: Tensor = output.logits[torch.arange(len(paths), device=mask.device), last]
    return logits.float()
