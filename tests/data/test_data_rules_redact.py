from __future__ import annotations

import json

import pytest

from tunewright.core.chat import Message
from tunewright.data.draft import Draft, Masked
from tunewright.data.rules.options import RedactOptions, SecretsOptions
from tunewright.data.rules.redact import Redact
from tunewright.data.rules.secrets import Secrets

CARD, PHONE, MAIL = "4111111111111111", "13812345678", "zhang@qq.com"
KEY = "ghp_Ab3dE6gH9jK2mN5pQ8sT1vW4xY7zA0bC3dE6"


def draft(*texts, metadata=None, calls=()):
    roles = ["user", "assistant"] * len(texts)
    turns = [Message(role=role, content=text) for role, text in zip(roles, texts, strict=False)]
    if calls:
        turns.append(Message(role="assistant", content=None, tool_calls=calls))
    return Draft(tuple(turns), metadata or {})


def call(**arguments):
    return {"type": "function", "id": PHONE, "function": {"name": "f", "arguments": arguments}}


def contents(done):
    return [turn.content for turn in done.turns]


def test_masks_every_turn_counts_by_kind_and_says_nothing_of_it():
    done = Redact(RedactOptions()).apply(
        draft(f"卡{CARD}电话{PHONE}", "好的", f"另一个电话１３９１２３４５６７８，{MAIL}")
    )
    assert contents(done) == ["卡<BANK_CARD>电话<PHONE>", "好的", "另一个电话<PHONE>，<EMAIL>"]
    (note,) = done.notes
    assert (note.code, note.action) == ("PII", "repaired")
    assert note.reason == "masked 1 bank_card, 1 email, 2 phone in turn 1, turn 3"
    assert note.excerpt == ""
    assert done.tallies == {"pii.bank_card": 1, "pii.email": 1, "pii.phone": 2}
    assert done.masked == ()


def test_a_row_without_personal_data_is_not_touched():
    clean = draft("订单号2023010112345678，版本1.2.3", "好的", metadata={"phone": "95588"})
    assert Redact(RedactOptions(keys=("phone",))).apply(clean) is clean


def test_only_the_chosen_kinds():
    done = Redact(RedactOptions(kinds=("email",))).apply(draft(f"{PHONE} {MAIL}", "x"))
    assert contents(done)[0] == f"{PHONE} <EMAIL>"
    assert done.tallies == {"pii.email": 1}


def test_tool_calls_at_any_depth_and_numbers():
    start = draft("q", calls=(call(to=[MAIL, {"n": int(PHONE)}], amount=37.5, count=2, ok=True, none=None),))
    done = Redact(RedactOptions()).apply(start)
    (masked,) = done.turns[1].tool_calls
    assert masked["function"]["arguments"] == {
        "to": ["<EMAIL>", {"n": "<PHONE>"}],
        "amount": 37.5,
        "count": 2,
        "ok": True,
        "none": None,
    }
    assert (masked["id"], masked["function"]["name"]) == (PHONE, "f")
    assert start.turns[1].tool_calls[0]["function"]["arguments"]["to"][0] == MAIL, "the source's row is not changed"


@pytest.mark.parametrize(
    "pair", [f'"p": {PHONE}', f'"p": "{PHONE}"', f'"p": [{PHONE}, 1]', f'"p": "电话: {PHONE}, ok"']
)
def test_a_tool_result_stays_valid_json(pair):
    text = f'{{"a\\"": 1, {pair}}}'
    json.loads(text)
    done = Redact(RedactOptions()).apply(draft("q", text))
    shown = json.loads(contents(done)[1])
    assert PHONE not in str(shown) and "<PHONE>" in str(shown)


def test_named_metadata_keys_only():
    metadata = {"customer": {"contact": [PHONE, int(PHONE), 13812345678.0], "age": 30}, "note": PHONE, "a.b": MAIL}
    rule = Redact(RedactOptions(keys=("metadata.customer.contact", "a.b", "metadata.absent.key")))
    done = rule.apply(draft("q", "a", metadata=metadata))
    assert done.metadata == {
        "customer": {"contact": ["<PHONE>"] * 3, "age": 30},
        "note": PHONE,
        "a.b": "<EMAIL>",
    }
    assert done.notes[0].reason == "masked 1 email, 3 phone in metadata.customer.contact, metadata.a.b"
    assert metadata["customer"]["contact"][0] == PHONE


def test_mapping_numbers_each_text_and_can_be_undone():
    texts = (f"我是{PHONE}，朋友是13912345678", f"确认{PHONE}或{MAIL}", "我的是１３８１２３４５６７８，见<PHONE_2>")
    done = Redact(RedactOptions(mapping=True, keys=("m",))).apply(draft(*texts, metadata={"m": MAIL}))
    assert contents(done) == [
        "我是<PHONE_1>，朋友是<PHONE_3>",
        "确认<PHONE_1>或<EMAIL_1>",
        "我的是<PHONE_4>，见<PHONE_2>",
    ]
    assert done.metadata == {"m": "<EMAIL_1>"}
    assert done.masked[0] == Masked("<PHONE_1>", PHONE, "phone")
    restored = contents(done)
    for masked in done.masked:
        restored = [text.replace(masked.placeholder, masked.original) for text in restored]
    assert tuple(restored) == texts
    assert done.tallies == {"pii.phone": 4, "pii.email": 2}


def test_places_are_not_listed_without_end():
    done = Redact(RedactOptions()).apply(draft(*[PHONE] * 9))
    assert done.notes[0].reason == "masked 9 phone in turn 1, turn 2, turn 3, turn 4, turn 5 and 4 more"


def test_secret_takes_the_row_out_and_is_never_shown():
    found = Secrets(SecretsOptions()).apply(draft("q", f"用{KEY}", "密码：Qw3rT9!x"))
    assert (found.code, found.reason) == (
        "SECRET",
        "the row holds a secret: github_token in turn 2, password in turn 3",
    )
    assert found.excerpt == ""


def test_secrets_masked_in_turns_and_tool_calls():
    start = draft(f"用{KEY}和{KEY}", calls=(call(key=KEY, url="postgres://a:S3cr3tPw@db/x"),))
    done = Secrets(SecretsOptions(action="mask")).apply(start)
    assert contents(done)[0] == "用<SECRET>和<SECRET>"
    assert done.turns[1].tool_calls[0]["function"]["arguments"] == {
        "key": "<SECRET>",
        "url": "postgres://a:<SECRET>@db/x",
    }
    (note,) = done.notes
    assert (note.code, note.action) == ("SECRET", "repaired")
    assert note.reason == (
        "masked 4 secret(s): github_token in turn 1, github_token in turn 2, connection_string in turn 2"
    )
    assert done.tallies == {"secrets.github_token": 3, "secrets.connection_string": 1}


@pytest.mark.parametrize(
    "text", ["密码ＡＢＣ", "api_key=your_api_key_here", "sk-xxxxxxxxxxxxxxxxxxxxxxxx", "忘记密码怎么办？"]
)
def test_no_secret(text):
    clean = draft(text, "好的")
    assert Secrets(SecretsOptions()).apply(clean) is clean
