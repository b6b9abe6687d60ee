"""What benchmarks/train_gpu.py measures: the target's shape, the systems' settings, and what the plan says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BATCH, WARM, RATE, SEED = 64, 2, 1e-4, 7
SHAPE = {
    "vocab_size": 102400,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 30,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "use_cache": False,
}
LORA = {"name": "lora", "rank": 16, "alpha": 32, "targets": ["q_proj", "v_proj"], "dropout": 0.0}
SMALL = {"micro_batch_tokens": 1024, "gradient_checkpointing": True}
FULL = {"method": {"name": "full"}, "optimizer": "adamw_8bit", "gradient_checkpointing": True}
LEAST = {"update_in_backward": True, "offload_optimizer": True}
SYSTEMS: dict[str, dict[str, Any]] = {
    "lora": {"method": LORA, "micro_batch_tokens": 8192},
    "lora, 16384 tokens at once": {"method": LORA, "micro_batch_tokens": 16384},
    "lora, no shared prefix": {"method": LORA, "micro_batch_tokens": 8192, "share_prefix": False},
    "lora, kernels plain": {"method": LORA, "micro_batch_tokens": 8192, "kernels": "plain"},
    "lora, small": {"method": LORA, **SMALL},
    "lora, 4-bit base": {"method": {**LORA, "base_bits": 4}, "micro_batch_tokens": 8192},
    "lora, 4-bit base, small": {"method": {**LORA, "base_bits": 4}, **SMALL},
    "prefix": {"method": {"name": "prefix"}, "micro_batch_tokens": 4096},
    "ia3": {"method": {"name": "ia3"}, "micro_batch_tokens": 4096},
    "full, 8-bit optimizer": {**FULL, "micro_batch_tokens": 8192},
    "full, small": {
        **FULL,
        "update_in_backward": True,
        "offload_optimizer": True,
        "micro_batch_tokens": 4096,
        "rows": 8,
    },
    "trainer 2x32, liger": {"rival": 2, "liger": True},
    "trainer 4x16, liger": {"rival": 4, "liger": True},
    "trainer 8x8, liger": {"rival": 8, "liger": True},
    "trainer 16x4 flat, liger": {"rival": 16, "liger": True, "flat": True},
    "trainer 32x2 flat, liger": {"rival": 32, "liger": True, "flat": True},
}


def settings_of(system: dict[str, Any]) -> tuple[Any, Any, Any, int]:
    """(train settings, method, number formats, rows a step)."""
    from tunewright.core.config import validate
    from tunewright.train import precision
    from tunewright.train.config import METHODS, TrainConfig

    wanted = {"learning_rate": RATE, "schedule": "constant", "warmup_ratio": 0.0, "weight_decay": 0.0, **system}
    batch = wanted.pop("rows", BATCH)
    config = validate(TrainConfig, wanted, {(): 0}, "benchmark")
    method = METHODS.target(config.method.name)(config.method)
    return config, method, precision.choose("bfloat16", kind=method.kind, optimizer=config.optimizer), batch


def examples_of(rows: list[dict[str, Any]]) -> list[Any]:
    """As tunewright's tokenizer gives them."""
    from tunewright.models.tokens import IGNORED, Example

    return [
        Example(tuple(row["input_ids"]), tuple(IGNORED if x == -100 else x for x in row["labels"]), str(number))
        for number, row in enumerate(rows)
    ]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """As --make-rows wrote them."""
    return [json.loads(text) for text in path.read_text().splitlines()]


def predicted(system: dict[str, Any], rows: list[dict[str, Any]], steps: int) -> str:
    """GiB on the GPU by part, over this many steps."""
    from transformers import LlamaConfig

    from tunewright.train.footprint.parts import PARTS
    from tunewright.train.footprint.predict import Walks, predict, work_of
    from tunewright.train.rows import shares_prefixes

    config, _, formats, batch = settings_of(system)
    examples = examples_of(rows[: batch * steps])
    together = [examples[at : at + batch] for at in range(0, len(examples), batch)]
    shape = LlamaConfig(**SHAPE)
    work = work_of(together, config, shape, share_prefix=shares_prefixes(config))
    need = predict(Walks(shape), config, formats, work, device="cuda")
    parts = ", ".join(f"{part} {getattr(need, part) / 2**30:.2f}" for part in PARTS if getattr(need, part))
    return f"{need.bytes / 2**30:.2f} | {parts}"
