"""The stage with augmentation and with annotators: what is sealed, and the gate."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from tunewright.core.errors import GateError
from tunewright.data import table
from tunewright.data.config import DataConfig
from tunewright.data.enlarge import add_variants
from tunewright.data.tokens.check import RULES, RowTokens

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
    assert report["tokens"]["splits"]["train"]["rows"] == len(train)
    assert sum(report["tokens"]["histogram"]["counts"]) == len(train)
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


def test_a_variant_that_breaks_a_token_rule_is_dropped(run_data, tmp_path):
    """For a row of its own the stage would stop."""
    artifact, _ = run_data({"a.jsonl": questions(24), "words.tsv": b"en\thelp\tassist\n"}, sources=["a.jsonl"])
    path = tmp_path / "train.jsonl"
    path.write_bytes((artifact.path / "train.jsonl").read_bytes())
    before = path.read_bytes()
    broken = RowTokens(1, 9, 2, 9, 0, 1, 0, 0, ("round_trip",))
    chosen = DataConfig.model_validate({"sources": ["a"], "augment": AUGMENT}).augment
    made = add_variants(
        tmp_path,
        chosen,
        check=SimpleNamespace(measure=lambda conversation: broken),
        asked=set(),
        rows=10,
        seed=7,
        root=tmp_path,
    )
    dropped = made.report["synonyms"]["dropped"]["TOKENS"]
    assert (made.report["synonyms"]["variants"], len(made.tokens)) == (0, 0)
    assert dropped["count"] > 0 and dropped["example"]["reason"] == RULES["round_trip"]
    assert path.read_bytes() == before
