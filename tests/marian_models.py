"""Translation models for tests: a Marian of one layer over bytes, random or knowing a few sentences by heart.

Imports torch and transformers: call `pytest.importorskip("torch")` first.
"""

from __future__ import annotations

import torch
from tokenizers import Tokenizer
from transformers import MarianConfig, MarianMTModel

END, PAD = 258, 256


def build(*, words=259, longest=64, end=END, pad=PAD):
    """A random Marian of one layer over bytes. end, pad: ids; CTranslate2's converter wants pad to be the last one."""
    torch.manual_seed(5)
    config = MarianConfig(
        vocab_size=words,
        d_model=64,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=longest,
        pad_token_id=pad,
        eos_token_id=end,
        bos_token_id=257,
        decoder_start_token_id=pad,
        forced_eos_token_id=end,
        dropout=0.0,
    )
    return MarianMTModel(config)


def learn(model, folder, pairs, *, end=END, pad=PAD):
    """Trains until the model knows the pairs by heart; the loss is asserted, so that a test cannot pass on noise."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    sides = [[tokenizer.encode(text).ids for text in side] for side in zip(*pairs, strict=True)]
    sides[1] = [[*ids, end] for ids in sides[1]]
    widths = [max(map(len, side)) for side in sides]
    source = torch.tensor([ids + [pad] * (widths[0] - len(ids)) for ids in sides[0]])
    labels = torch.tensor([ids + [-100] * (widths[1] - len(ids)) for ids in sides[1]])
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(400):
        loss = model(input_ids=source, attention_mask=(source != pad).long(), labels=labels).loss
        if loss < 0.02:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.model.shared.weight[pad] = 0  # as in published models: the decoder starts from a zero embedding
    assert loss < 0.02
    return model
