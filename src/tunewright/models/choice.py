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
WIDEST_ROUND = 4
WHOLE_TREE = 256
"""Paths of a tree that is cheaper to compute whole than in further rounds."""


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
    """The most probable answer of each prompt. Round r expands the 2^r best open paths of every row at once: a sure
    model is done after one or two. Rows still open after three rounds get a small tree whole."""
    logits, layers, mask = batch.prefill(prompts)
    searches = [_Search() for _ in prompts]
    for row, search in enumerate(searches):
        _expand(search, (), 0.0, logits[row], children)
    width = 1
    while active := [row for row, search in enumerate(searches) if _advance(search, answers)]:
        if width > WIDEST_ROUND and len(children) <= WHOLE_TREE:
            prompt_state = (kv.select(layers, active), mask[active], logits[active])
            for row, answer in zip(active, _whole_tree(batch, children, list(answers), prompt_state), strict=True):
                searches[row].answer = answer
            break
        expanded = [_best_open(searches[row], width, answers) for row in active]
        paths = [[path for _, path in best] for best in expanded]
        found = _tree_logits(batch, paths, kv.select(layers, active), mask[active])
        for row, best, row_logits in zip(active, expanded, found, strict=True):
            for (cost, path), path_logits in zip(best, row_logits, strict=True):
                _expand(searches[row], path, cost, path_logits, children)
        width *= 2
    return [search.answer or () for search in searches]


def _whole_tree(
    batch: RunningBatch,
    children: dict[Path, list[int]],
    answers: list[Path],
    state: tuple[kv.Layers, Tensor, Tensor],
) -> list[Path]:
    """The most probable answer of each row from all paths in one pass. state: the prompts' cache, mask, and
    logits [B, V] after them."""
    layers, mask, first = state
    inner = [path for path in children if path]
    found = _tree_logits(batch, [inner] * len(mask), layers, mask)
    best = []
    for row, row_logits in enumerate(found):
        after = dict(zip(inner, row_logits, strict=True)) | {(): first[row]}
        steps = {
            (*path, token): value
            for path, tokens in children.items()
            for token, value in zip(tokens, torch.log_softmax(after[path], -1)[tokens].tolist(), strict=True)
        }
        totals = {answer: sum(steps[answer[: end + 1]] for end in range(len(answer))) for answer in answers}
        best.append(max(answers, key=totals.__getitem__))
    return best


def _advance(search: _Search, answers: dict[Path, int]) -> bool:
    """Whether the search must go on; a whole answer on top of the heap beats every bound."""
    if search.answer is None and search.open[0][1] in answers:
        search.answer = search.open[0][1]
    return search.answer is None


def _best_open(search: _Search, width: int, answers: dict[Path, int]) -> list[tuple[float, Path]]:
    """Takes up to `width` best unfinished paths off the heap; whole answers stay on it."""
    taken: list[tuple[float, Path]] = []
    whole: list[tuple[float, Path]] = []
    while search.open and len(taken) < width:
        cost, path = heapq.heappop(search.open)
        (whole if path in answers else taken).append((cost, path))
    for item in whole:
        heapq.heappush(search.open, item)
    return taken


def _expand(search: _Search, path: Path, cost: float, logits: Tensor, children: dict[Path, list[int]]) -> None:
    """Puts the continuations of `path` on the heap. logits: [V]."""
    log_probabilities = torch.log_softmax(logits, -1)[children[path]].tolist()
    for token, value in zip(children[path], log_probabilities, strict=True):
        heapq.heappush(search.open, (cost - value, (*path, token)))


def _tree_logits(batch: RunningBatch, paths: list[list[Path]], layers: kv.Layers, mask: Tensor) -> list[list[Tensor]]:
    """Logits [V] after each path of each row. A row's paths are one tree behind its prompt: every token sees the
    prompt, the tokens before it on its path, and itself."""
    trees = [sorted({path[:end] for path in row for end in range(1, len(path) + 1)}) for row in paths]
    size, start = max(map(len, trees)), mask.shape[1]
    ids = torch.zeros(len(trees), size, dtype=torch.long)
    positions = torch.zeros(len(trees), size, dtype=torch.long)
    sees = torch.zeros(len(trees), 1, size, start + size, dtype=torch.bool)
    sees[:, 0, torch.arange(size), start + torch.arange(size)] = True
    sees[..., :start] = mask.bool().cpu()[:, None, None]
    lengths = mask.sum(1).tolist()
    places = [{path: index for index, path in enumerate(tree)} for tree in trees]
    for row, own in enumerate(places):
        for path, index in own.items():
            ids[row, index] = path[-1]
            positions[row, index] = lengths[row] + len(path) - 1
            for end in range(1, len(path)):
                sees[row, 0, index, start + own[path[:end]]] = True
    on = mask.device
    state = batch.forward.state(layers)
    logits, _ = batch.forward(ids.to(on), sees.to(on), positions.to(on), state, last_only=False)
    return [[logits[row, places[row][path]].float() for path in wanted] for row, wanted in enumerate(paths)]
