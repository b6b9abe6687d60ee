"""The tokenizer inside a GGUF file: tokens, types, merges, the pre-tokenizer's name, special ids, chat template."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFValueType, GGUFWriter, Keys, TokenType

from tunewright.models.tokens import ChatTokenizer, token_text
from tunewright.quantize.scheme import QuantizeError

PROBE = (
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶‍🌫️ (multiple emojis concatenated) ✅ 🦙🦙 "
    "3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 ?我想在apple工作1314151天～ "
    "------======= нещо на Български "
    "''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? 'M not sure I'll make it, "
    "'D you like some tea? We'Ve a'lL"
)
"""llama.cpp knows a pre-tokenizer by the ids of exactly this text (its converter's `get_vocab_base_pre`, MIT)."""
KNOWN = {
    "855059429035d75a914d1eda9f10a876752e281a054a7a3d421ef0533e5b6249": "smollm",
    "049ecf7629871e3041641907f3de7c733e4dbfdc736f57d882ba0b0845599754": "deepseek-llm",
    "07e1c926f0e5833bd31ad4ce54099a4d3b2b99754a86eb14a33c60349b0e646e": "gpt-2",
}
"""sha256 of the ids as Python prints the list -> name. The last one is `builtin:tiny`, whose tokens are single bytes:
without merges every pre-tokenizer gives the same ids."""


@dataclass(frozen=True)
class GgufTokenizer:
    """What the file stores. tokens, types: one each id up to the model's vocabulary size."""

    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]


def read_tokenizer(folder: Path, *, vocabulary: int) -> GgufTokenizer:
    """Reads tokenizer.json of `folder`. Raises QuantizeError when llama.cpp would split text in another way."""
    document = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    model = document["model"]
    if model.get("type") != "BPE":
        raise _refusal(folder, f"its model is {model.get('type')}, not BPE")
    pre = pre_tokenizer_name(ChatTokenizer.load(folder), folder)
    text_of = {index: token for token, index in model["vocab"].items()}
    added = {token["id"]: token for token in document["added_tokens"]}
    text_of |= {index: token["content"] for index, token in added.items()}
    if max(text_of) >= vocabulary:
        raise _refusal(folder, f"it has token id {max(text_of)}, but the model's vocabulary ends at {vocabulary - 1}")
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return GgufTokenizer(
        pre=pre,
        tokens=[text_of.get(index, f"[PAD{index}]") for index in range(vocabulary)],
        types=[_type(index, text_of, added) for index in range(vocabulary)],
        merges=merges,
    )


def pre_tokenizer_name(tokenizer: ChatTokenizer, folder: Path) -> str:
    """llama.cpp's name for how this tokenizer splits text, with or without a BOS in front of the probe."""
    ids = tokenizer.encode(PROBE)
    bos = tokenizer.encode(tokenizer.bos) if tokenizer.bos else []
    for candidate in (ids, [*bos, *ids]):
        name = KNOWN.get(hashlib.sha256(str(candidate).encode()).hexdigest())
        if name:
            return name
    raise _refusal(folder, "its way of splitting text is not one this program knows in llama.cpp")


def _refusal(folder: Path, reason: str) -> QuantizeError:
    return QuantizeError(
        f"this tokenizer cannot be stored in a GGUF file: {reason}",
        where=str(folder / "tokenizer.json"),
        fix="leave the gguf variants out, or convert the bf16 variant with llama.cpp's convert_hf_to_gguf.py",
    )


def _type(index: int, text_of: dict[int, str], added: dict[int, Any]) -> int:
    if index not in text_of:
        return int(TokenType.UNUSED)
    if index in added:
        return int(TokenType.CONTROL if added[index]["special"] else TokenType.USER_DEFINED)
    return int(TokenType.NORMAL)


def add_tokenizer(writer: GGUFWriter, stored: GgufTokenizer, folder: Path) -> None:
    """Puts the tokenizer, its special ids and the chat template into the file's header."""
    chat = ChatTokenizer.load(folder)
    ids = {text: index for index, text in enumerate(stored.tokens)}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(stored.pre)
    writer.add_token_list(stored.tokens)
    writer.add_token_types(stored.types)
    # add_token_merges leaves an empty list out, and then llama.cpp refuses the file
    writer.add_key_value(Keys.Tokenizer.MERGES, stored.merges, GGUFValueType.ARRAY, GGUFValueType.STRING)
    special = {
        "bos_token": writer.add_bos_token_id,
        "eos_token": writer.add_eos_token_id,
        "unk_token": writer.add_unk_token_id,
        "pad_token": writer.add_pad_token_id,
    }
    for role, add in special.items():
        text = token_text(chat.settings.get(role))
        if text in ids:
            add(ids[text])
    other_ends = sorted(chat.end_ids - {ids.get(chat.eos)})
    if other_ends:
        writer.add_eot_token_id(other_ends[0])
    writer.add_add_bos_token(bool(chat.settings.get("add_bos_token")))
    writer.add_add_space_prefix(False)
    writer.add_chat_template(chat.template.source)
