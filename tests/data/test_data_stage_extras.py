"""The stage with augmentation and with annotators: what is sealed, and the gate."""

from __future__ import annotations

import json

import pytest

from tunewright.core.errors import GateError
from tunewright.data import table

AUGMENT = [{"name": "synonyms", "dictionary": "words.tsv", "share": 1, "rate": 1}]


def questions(n):
    """Questions that all hold a word of the dictionary."""
    return [
        {
            "conversation": [
                {"role": "user", "content": f"Please help me, my parcel {chr(97 + i) * 9} number {i} is late"},
                {"role": "assistant", "content": f"answer {i % 4}"},
            ]
        }
        for i in range(n)
    ]


def test_variants_join_the_training_split_only_and_name_their_parents(run_data, books):
    words = b"en\thelp\tassist\n"
    artifact, report = run_data({"a.jsonl": questions(24), "words.tsv": words}, sources=["a.jsonl"], augment=AUGMENT)
    books(report)
    train = artifact.jsonl("train.jsonl")
    variants = [row for row in train if "augmented" in row["metadata"]]
    made = report["augment"]["synonyms"]["variants"]
    assert made == len(variants) > 0
    assert len(train) == report["splits"]["train"] + made
    ids = {row["id"] for row in train}
    for row in variants:
        assert row["metadata"]["augmented"]["parent"] in ids
        assert "assist me" in row["conversation"][0]["content"]
    others = artifact.jsonl("validation.jsonl") + artifact.jsonl("test.jsonl")
    assert not any("augmented" in row["metadata"] for row in others)
    assert f"augment synonyms: {made} variants" in table.table(report)
    plain, _ = run_data(sources=["a.jsonl"])
    assert plain.jsonl("test.jsonl") == artifact.jsonl("test.jsonl")
    changed, _ = run_data({"words.tsv": b"en\thelp\tsupport\n"}, sources=["a.jsonl"], augment=AUGMENT)
    assert changed.path != artifact.path  # the dictionary is an input


def labelled(pairs):
    rows = questions(len(pairs))
    for row, (first, second) in zip(rows, pairs, strict=True):
        row["metadata"] = {"labels": {"ann": first, "bob": second}}
    return rows


def test_the_consensus_is_written_and_disagreement_stops_the_stage(run_data, books):
    pairs = [("late", "late"), ("lost", "lost")] * 12
    settings = {"sources": ["a.jsonl"], "annotation": {"write_to": "metadata.intent", "min_agreement": 0.8}}
    artifact, report = run_data({"a.jsonl": labelled(pairs)}, **settings)
    books(report)
    rows = [row for name in ("train", "validation", "test") for row in artifact.jsonl(f"{name}.jsonl")]
    assert all(row["metadata"]["intent"] == row["metadata"]["labels"]["ann"] for row in rows)
    assert report["annotation"]["alpha"]["value"] == pytest.approx(1)
    mixed = [("late", "lost"), ("lost", "late"), ("late", "late")] * 8
    with pytest.raises(GateError, match="min_agreement") as caught:
        run_data({"a.jsonl": labelled(mixed)}, **settings)
    assert caught.value.exit_code == 5
    with pytest.raises(GateError, match="min_agreement"):  # the sealed artifact says the same
        run_data(**settings)
    assert json.dumps(report)
