"""`builtin:tiny`: a random Llama with a byte tokenizer, made in the process; for tests and dry runs of a project."""

from __future__ import annotations

import shutil
from pathlib import Path

from tunewright.core import files

_FORMAT = 1
_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _place(cache: Path) -> Path:
    return cache / f"tiny-{_FORMAT}"


def is_made(cache: Path) -> bool:
    """Whether the folder is there and whole."""
    return (_place(cache) / "source.json").exists()


def folder(cache: Path) -> Path:
    """The tiny model's folder; the same bytes on every machine (seeded)."""
    target = _place(cache)
    if not is_made(cache):
        temporary = target.with_name(f"{target.name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        write(temporary)
        files.write_json(temporary / "source.json", {"name": "tiny"})
        try:
            temporary.replace(target)
        except OSError:  # another process was first
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def write(target: Path, *, seed: int = 7) -> None:
    """Writes config, random fp32 weights (2 layers, hidden 64, 259 tokens) and the tokenizer to `target`."""
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    write_tokenizer(target)
    config = LlamaConfig(
        vocab_size=256 + len(_SPECIAL),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=257,
        eos_token_id=258,
        pad_token_id=256,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=258, bos_token_id=257, pad_token_id=256)
    model.save_pretrained(target)


def write_tokenizer(target: Path) -> None:
    """A byte-level tokenizer with a ChatML template."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in _SPECIAL])
    tokenizer.save(str(target / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 512,
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    files.write_json(target / "tokenizer_config.json", settings)
