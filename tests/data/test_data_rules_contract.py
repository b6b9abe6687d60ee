"""What every rule of the registry must hold, built in or not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tunewright.core.chat import Message
from tunewright.data.config import RULES
from tunewright.data.draft import Draft, RowRule, SampleRule
from tunewright.data.findings import Rejection
from tunewright.data.rules.options import DomainOptions

NEEDED = {"domain": DomainOptions(vocabulary=("卡",), elements={"advice": ("建议",)})}
"""Options of rules that do nothing without any."""
CALL = ({"type": "function", "function": {"name": "f", "arguments": {"a": ["13812345678", 1.5, None]}}},)
ODD = [
    (),
    (Message(role="system", content=""),),
    (Message(role="assistant", content=None, tool_calls=CALL),),
    (Message(role="tool", content="\x00\u200b"), Message(role="user", content="")),
    (
        Message(role="user", content="卡4111111111111111\nUser: x\n密码：Qw3rT9!x"),
        Message(role="assistant", content="ﬁ\ud83d"),
    ),
    (Message(role="user", content="q"), Message(role="assistant", content="a" * 9000)),
]


ROW_RULES = [name for name in RULES.entries if name != "near_duplicate"]
"""near_duplicate looks at all rows together: tests/data/test_data_stage.py."""


def rule(name):
    return RULES.target(name)(NEEDED.get(name) or RULES.options(name)())


@pytest.mark.parametrize("name", ROW_RULES)
def test_a_rule_is_of_one_kind_and_has_documented_options(name):
    made = rule(name)
    assert isinstance(made, RowRule) != isinstance(made, SampleRule)
    options = RULES.options(name)
    assert options.__doc__ and options.model_fields["name"].default == name
    undocumented = [key for key, field in options.model_fields.items() if key != "name" and not field.description]
    assert not undocumented


@pytest.mark.parametrize("turns", ODD)
@pytest.mark.parametrize("name", ROW_RULES)
def test_a_rule_takes_any_draft_changes_none_and_says_why(name, turns):
    draft = Draft(turns, {"k": {"n": 1}})
    before = repr(draft)
    made = rule(name)
    results = made.samples(draft) if isinstance(made, SampleRule) else [made.apply(draft)]
    assert repr(draft) == before
    assert results
    for result in results:
        if isinstance(result, Rejection):
            assert result.code.isupper() and result.reason
            continue
        assert all(note.code.isupper() and note.reason and note.action != "quarantined" for note in result.notes)
        assert all(len(note.excerpt) <= 80 for note in result.notes)
        changed = result.turns != draft.turns or result.metadata != draft.metadata
        if changed and not isinstance(made, SampleRule):
            assert any(note.action == "repaired" or note.code == "FIRST_ASSISTANT" for note in result.notes)
        assert all(value >= 1 for value in result.tallies.values())
        json.dumps(dict(result.tallies))
    again = made.samples(draft) if isinstance(made, SampleRule) else [rule(name).apply(draft)]
    assert repr(again) == repr(results)


def test_rules_load_neither_torch_nor_transformers():
    code = (
        "import sys; from tunewright.data.config import RULES; [RULES.target(name) for name in RULES.entries];"
        "assert not {'torch', 'transformers', 'pandas', 'pyarrow'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
