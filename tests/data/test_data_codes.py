"""Every code is explained, every explained code exists, and every example shows what its page says."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

import tunewright.data
from tunewright import reference
from tunewright.data.annotation.labels import label_notes
from tunewright.data.codes import CODES
from tunewright.data.codes.code import Code, pair
from tunewright.data.config import DataConfig
from tunewright.data.duplicates.conflicts import find_conflicts
from tunewright.data.duplicates.near import find_near
from tunewright.data.duplicates.text import conversation_text
from tunewright.data.findings import Rejection
from tunewright.data.formats.recognise import build, recognise
from tunewright.data.prepare import rules_of
from tunewright.data.reading.rows import inspect, read_rows
from tunewright.data.reading.strict_json import parse
from tunewright.data.splits.assign import message_digest, question_digest
from tunewright.models import tiny
from tunewright.models.tokens import ChatTokenizer

ROOM = Path(tunewright.data.__file__).parent
NAME = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
CARRIERS = ("Note", "Rejection", "Finding")
FOLDER = "codes"


def trees():
    paths = [path for path in sorted(ROOM.rglob("*.py")) if path.relative_to(ROOM).parts[0] != FOLDER]
    return {path.relative_to(ROOM).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def code_argument(call):
    """The expression of a finding's code: by name, or in its place (a Finding has place and line before it)."""
    named = next((word.value for word in call.keywords if word.arg == "code"), None)
    place = 3 if call.func.id == "Finding" else 0
    return named or (call.args[place] if len(call.args) > place else None)


def constants(node):
    return {part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)}


def codes_in(tree):
    """Codes given to a finding: as they stand, or through a name of the file that is assigned or passed them."""
    found = set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if not (isinstance(call.func, ast.Name) and call.func.id in CARRIERS):
            continue
        code = code_argument(call)
        if code is None or isinstance(code, ast.Attribute):  # note.code: it was counted where that note was made
            continue
        found |= constants(code)
        for name in {node.id for node in ast.walk(code) if isinstance(node, ast.Name)}:
            found |= assigned(tree, name)
    return {code for code in found if NAME.fullmatch(code)}


def assigned(tree, name):
    """Texts that `name` may hold: assigned at any place of the file, or passed to a function that has it as
    parameter."""
    found = set()
    for node in ast.walk(tree):
        is_setter = isinstance(node, ast.Assign | ast.AnnAssign | ast.For | ast.comprehension)
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if is_setter else []
        if name in {part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)}:
            found |= constants(getattr(node, "value", None) or getattr(node, "iter", None) or ast.Pass())
        if isinstance(node, ast.FunctionDef):
            names = [arg.arg for arg in [*node.args.args, *node.args.kwonlyargs]]
            if name in names:
                found |= passed(tree, node.name, name, names.index(name))
    return found


def passed(tree, function, name, place):
    found = set()
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        called = getattr(call.func, "id", getattr(call.func, "attr", None))
        if called == function:
            found |= set().union(*(constants(word.value) for word in call.keywords if word.arg == name), set())
            found |= constants(call.args[place]) if len(call.args) > place else set()
    return found


def test_every_code_is_explained_and_every_explained_code_is_used():
    used = {code: name for name, tree in trees().items() for code in codes_in(tree)}
    assert len(used) > 30, "the walk lost its way"
    assert {code: used[code] for code in used.keys() - CODES.keys()} == {}, "used but not explained"
    assert CODES.keys() - used.keys() == set(), "explained but never used"


@pytest.mark.parametrize(
    "source",
    [
        "Note('A_B', 'kept', 'why')",
        "Rejection(code='A_B', reason='why')",
        "Finding('s', 1, 0, 'A_B', 'kept', 'why', '')",
        "Note('A_B' if x else 'OTHER', 'kept', 'why')",
        "CODE = 'A_B'\ndef f():\n    return Note(CODE, 'kept', 'why')",
        "def f(code):\n    return Note(code, 'kept', 'why')\nf('A_B')",
        "def f(*, code):\n    return Note(code, 'kept', 'why')\nx.f(code='A_B')",
        "for code in ('A_B',):\n    Note(code, 'kept', 'why')",
    ],
)
def test_the_walk_finds_codes_however_they_are_given(source):
    assert "A_B" in codes_in(ast.parse(source))


def test_the_walk_takes_no_reason_for_a_code():
    assert codes_in(ast.parse("Note(other.code, 'kept', 'WHY')\nprint('NO')")) == set()


@pytest.mark.parametrize("name", CODES)
def test_an_entry_is_complete(name):
    code = CODES[name]
    assert NAME.fullmatch(name)
    for sentence in (code.meaning, code.next_step):
        assert sentence[0].isupper() or sentence[0] == "`"
        assert sentence.endswith(".")
    assert code.example.strip()


def test_codes_stand_in_the_order_of_the_alphabet():
    assert list(CODES) == sorted(CODES)


def test_x_escapes_of_an_example_are_bytes():
    assert Code("", "kept", "a\\xe9\\u00e9é", "").data == b"a\xe9\\u00e9\xc3\xa9"
    assert json.loads(pair("q", "a", k=1))["k"] == 1


def shown(outcomes):
    """(code, action) of every finding."""
    return {(found.code, found.action) for outcome in outcomes for found in outcome.findings}


@pytest.mark.parametrize("name", [name for name, code in CODES.items() if not code.needs])
def test_example_shows_its_code(gate, name):
    assert (name, CODES[name].action) in shown(gate.outcomes(CODES[name].data))


def templated(gate, folder, template):
    """A gate with the tiny model and another template."""
    tiny.write_tokenizer(folder)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    return type(gate)(folder, ChatTokenizer.load(folder))


@pytest.fixture
def no_system_gate(tmp_path, gate):
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turn') }}{% endif %}"
    return templated(gate, tmp_path, refusal + tiny.TEMPLATE)


@pytest.fixture
def no_reasoning_gate(tmp_path, gate):
    answer = "message['content'].split('</think>')[-1]"
    return templated(gate, tmp_path, tiny.TEMPLATE.replace("message['content']", answer))


@pytest.fixture
def lossy_gate(tmp_path, gate):
    """A gate with a model whose tokenizer leaves out private-use characters and a snowman."""
    tiny.write_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    lost = {"type": "Replace", "pattern": {"Regex": "[\u2603\U000f0000-\U000ffffd]"}, "content": ""}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"normalizer": lost}))
    return type(gate)(tmp_path, ChatTokenizer.load(tmp_path))


MODEL = dict.fromkeys(("SPECIAL_TOKEN", "TEMPLATE", "TOOLS_UNUSED"), "proven_gate")
MODEL |= {"PRIVATE_USE": "lossy_gate", "REASONING": "no_reasoning_gate", "SYSTEM_ROLE": "no_system_gate"}
MODEL |= {"UNENCODABLE": "lossy_gate"}


@pytest.mark.parametrize(("name", "fixture"), MODEL.items())
def test_example_that_needs_a_model(request, gate, name, fixture):
    expected = (name, CODES[name].action)
    assert expected in shown(request.getfixturevalue(fixture).outcomes(CODES[name].data))
    assert expected not in shown(gate.outcomes(CODES[name].data))


def conversations(gate, name):
    return [outcome.usable.conversation for outcome in gate.outcomes(CODES[name].data)]


def with_limit(gate, name):
    return shown(gate.outcomes(CODES[name].data, max_chars=100))


def as_table(gate, name):
    path = gate.folder / "input.csv"
    path.write_bytes(CODES[name].data)
    layout = inspect(path, max_chars=1000)
    rows = read_rows(path, source="input.csv", layout=layout, max_chars=1000)
    return {(row.content.code, "quarantined") for row in rows if isinstance(row.content, Rejection)}


def with_labels(gate, name):
    (row,) = conversations(gate, name)
    return {(note.code, note.action) for note in label_notes(row.metadata["labels"])}


def with_erasure_list(gate, name):
    erased = frozenset(message_digest(row) for row in conversations(gate, name))
    return shown(gate.outcomes(CODES[name].data, erased=erased))


def with_max_length(gate, name):
    gate.tokenizer = tokenizer_in(gate.folder)
    return shown(gate.outcomes(CODES[name].data, max_length=50))


def tokenizer_in(folder):
    tiny.write_tokenizer(folder)
    return ChatTokenizer.load(folder)


def with_near_duplicates(gate, name):
    rows = conversations(gate, name)
    texts = [conversation_text(row) for row in rows]
    found = find_near(texts, threshold=0.7, seed=7)
    notes = [found.rejection(row, [row.id for row in rows], texts[row]).as_note() for row in found.twins]
    return {(note.code, note.action) for note in notes}


def with_conflicts(gate, name):
    rows = conversations(gate, name)
    found = find_conflicts([question_digest(row) for row in rows], rows.__getitem__)
    return {(note.code, note.action) for _, note in found}


RULE = {
    "AGGRESSIVE": {"name": "text", "preset": "aggressive"},
    "LANGUAGE": {"name": "language"},
    "MISSING_ELEMENT": {"name": "domain", "elements": {"advice": ["see a doctor", "rest"]}},
    "OFF_DOMAIN": {"name": "domain", "vocabulary": ["card", "account"]},
    "PII": {"name": "redact"},
    "TOXIC": {"name": "toxicity"},
}


ON_BY_DEFAULT = {rule.name.upper().removesuffix("S") for rule in DataConfig(sources=("a",)).rules}


def with_rule(gate, name):
    (rule,) = rules_of(DataConfig.model_validate({"sources": ["a"], "rules": [RULE[name]]}).rules)
    done = rule.apply(build(recognise(parse(CODES[name].example, line=1).value)))
    notes = [done.as_note()] if isinstance(done, Rejection) else done.notes
    return {(note.code, note.action) for note in notes}


OTHERS = dict.fromkeys(RULE, with_rule) | dict.fromkeys(("PROMPT_CUT", "TURN_SAMPLES"), with_max_length)
OTHERS |= {
    "LABELS": with_labels,
    "COLUMNS": as_table,
    "ERASED": with_erasure_list,
    "CONFLICT": with_conflicts,
    "NEAR_DUPLICATE": with_near_duplicates,
    "TOO_LONG": with_limit,
}


@pytest.mark.parametrize(("name", "run"), OTHERS.items())
def test_example_that_needs_a_setting(gate, name, run):
    expected = (name, CODES[name].action)
    if name not in ON_BY_DEFAULT:
        assert expected not in shown(gate.outcomes(CODES[name].data))
    assert expected in run(gate, name)


def test_every_example_is_run():
    assert {name for name, code in CODES.items() if code.needs} == MODEL.keys() | OTHERS.keys()


def test_the_page_has_every_code_with_its_example():
    page = reference.codes_page()
    for name, code in CODES.items():
        section = page.split(f"\n## `{name}`\n")[1].split("\n## ")[0]
        assert code.meaning in section and code.next_step in section
        assert f"\n{code.example}\n```" in section
        assert f"| [`{name}`](#{name.lower()}) | {code.action} |" in page
