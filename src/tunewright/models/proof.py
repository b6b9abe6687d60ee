"""What a model must show before anything is done with it: its tokenizer fits its weights, its numbers are numbers, and
a rendered conversation has one begin token and a trained end token. A model that fails does not train.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError
from tunewright.models.template import TemplateRefusal
from tunewright.models.tokens import ChatTokenizer

_PROBED_TOKENS = 32
_NAMED = 3
_PAIR = (Message(role="user", content="How do I freeze my card?"), Message(role="assistant", content="In the app."))


def prove_files(model: Any, loading: Mapping[str, Any], folder: Path) -> None:
    """All that is proven of a loaded model before it computes anything; loading: see `prove_complete`."""
    prove_complete(loading, str(folder))
    prove_vocabulary(folder, model.get_input_embeddings().weight.shape[0])
    if (folder / "tokenizer.json").exists():
        prove_rendering(ChatTokenizer.load(folder), str(folder))


def prove_complete(loading: Mapping[str, Any], where: str) -> None:
    """loading: what transformers says of a loading. It only warns of weights that are not in the file and starts them
    at random; here that is an error, and so are weights that the model has no place for.

    Raises ArtifactError that names the first tensors.
    """
    missing, unexpected = sorted(loading["missing_keys"]), sorted(loading["unexpected_keys"])
    if missing:
        problem = f"the checkpoint lacks {_named(missing)}, which would start at random"
        raise ArtifactError(problem, where=where, fix="fetch the model again, or give the folder of a whole model")
    if unexpected:
        problem = f"the checkpoint holds {_named(unexpected)}, which this kind of model has no place for"
        raise ArtifactError(problem, where=where, fix="config.json and weights belong to different models; check both")
    mismatched = sorted(str(name[0] if isinstance(name, tuple) else name) for name in loading["mismatched_keys"])
    if mismatched:
        problem = f"the checkpoint holds {_named(mismatched)} in another shape than config.json says"
        raise ArtifactError(problem, where=where, fix="config.json and weights belong to different models; check both")


def _named(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''} ({shown}{', ...' if len(names) > _NAMED else ''})"


def prove_vocabulary(folder: Path, rows: int) -> None:
    """Every id of the folder's tokenizer must have one of the embedding's `rows`. More rows than ids are right (many
    models round up) and stay: nothing here resizes an embedding.

    Raises ArtifactError. A folder without tokenizer.json is not asked.
    """
    path = folder / "tokenizer.json"
    if not path.exists():
        return
    top, name = _highest(json.loads(path.read_text(encoding="utf-8")))
    if top >= rows:
        raise ArtifactError(
            f"the tokenizer does not fit the weights: token {name!r} has id {top}, and the embedding has {rows} rows",
            where=str(folder),
            fix="use the tokenizer that was published with these weights",
        )


def _highest(document: Mapping[str, Any]) -> tuple[int, str]:
    """The largest id of a tokenizer.json, with its token."""
    vocabulary = document["model"]["vocab"]
    if isinstance(vocabulary, list):  # Unigram: (token, score), the id is the place
        known = [(len(vocabulary) - 1, str(vocabulary[-1][0]))] if vocabulary else []
    else:
        known = [max((index, token) for token, index in vocabulary.items())] if vocabulary else []
    known += [(token["id"], token["content"]) for token in document.get("added_tokens", ())]
    return max(known, default=(-1, ""))


@torch.inference_mode()
def prove_finite(model: Any, where: str) -> None:
    """One forward pass over ids spread over the vocabulary; raises ArtifactError where a logit is NaN or infinite."""
    rows = int(model.get_input_embeddings().weight.shape[0])
    count = min(_PROBED_TOKENS, rows, int(getattr(model.config, "max_position_embeddings", None) or _PROBED_TOKENS))
    ids = torch.linspace(0, rows - 1, count, device=model.device).long()[None]
    logits = model(input_ids=ids, use_cache=False).logits
    if not bool(torch.isfinite(logits).all()):
        raise ArtifactError(
            "the model computes NaN or infinite logits",
            where=where,
            fix="fetch the model again; in float16 set model.dtype to bfloat16 or float32",
        )


def prove_rendering(tokenizer: ChatTokenizer, where: str) -> None:
    """A rendered question and answer: one begin token at most, at the start, and a trained end token behind the answer,
    also where the padding token is the same one.

    Raises ArtifactError. A template that refuses the pair is asked by every row later.
    """
    try:
        ids = tokenizer.messages_ids(_PAIR)
        if not tokenizer.bos_marks_turns and tokenizer.bos_id not in tokenizer.end_ids:
            _prove_bos(ids, tokenizer, where)
        examples = tokenizer.examples(Conversation(id="a question and an answer", messages=_PAIR), max_length=1 << 30)
    except TemplateRefusal:
        return
    if examples[-1].labels[-1] not in tokenizer.end_ids:
        raise ArtifactError(
            "the end token behind an answer is not trained, so answers would never stop",
            where=where,
            fix="correct the chat template or the end token of the model",
        )


def _prove_bos(ids: list[int], tokenizer: ChatTokenizer, where: str) -> None:
    count = ids.count(tokenizer.bos_id)
    if count > 1 or (count and ids[0] != tokenizer.bos_id):
        place = "not at the start" if count == 1 else f"{count} times"
        raise ArtifactError(
            f"the begin token {tokenizer.bos} stands {place} in a rendered conversation; it must stand once, in front",
            where=where,
            fix="correct the chat template or add_bos_token in tokenizer_config.json",
        )
