"""Templates of the kinds in use today: rendering equal to transformers, ids and masks equal to sequences by hand.

The templates are written for these tests in the shape of the real ones. `<id>` of a sequence by hand: plain text is
one id a UTF-8 byte (the tokenizer is bytes), control tokens are one id each, trained parts stand in a Trained.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError
from tunewright.models.template import TemplateRefusal, fold_system, tools_of
from tunewright.models.tokens import IGNORED, ChatTokenizer

LLAMA = (
    "{{- bos_token }}{%- for m in messages %}"
    "{{- '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + '[/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "{% for m in messages %}{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
QWEN = (
    "{%- if tools %}{{- '<|im_start|>system\nTools:\n<tools>' }}{%- for t in tools %}{{- '\n' + t | tojson }}"
    "{%- endfor %}{{- '\n</tools><|im_end|>\n' }}{%- endif %}"
    "{%- set ns = namespace(last=0) %}{%- for m in messages %}{%- if m.role == 'user' %}"
    "{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for m in messages %}{%- set text = m.content if m.content is string else '' %}"
    "{%- if m.role == 'assistant' %}{%- set thought = '' %}{%- if '</think>' in text %}"
    "{%- set thought = text.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{%- set text = text.split('</think>')[-1].lstrip('\n') %}{%- endif %}{{- '<|im_start|>assistant\n' }}"
    "{%- if loop.index0 > ns.last and (loop.last or thought) %}"
    "{{- '<think>\n' + thought + '\n</think>\n\n' }}{%- endif %}{{- text }}"
    '{%- for c in m.tool_calls or [] %}{{- \'<tool_call>\n{"name": "\' + c.function.name + \'", "arguments": \' }}'
    "{{- c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}"
    "{{- '}\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\n' }}"
    "{%- elif m.role == 'tool' %}"
    "{{- '<|im_start|>user\n<tool_response>\n' + text + '\n</tool_response><|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>' + m.role + '\n' + text + '<|im_end|>\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
HERMES = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}{% if m['content'] %}{{ m['content'] }}{% endif %}"
    "{% if m.tool_calls is defined and m.tool_calls %}{% for c in m.tool_calls %}"
    "{{ '<tool_call>' + {'name': c.function.name, 'arguments': c.function.arguments} | tojson + '</tool_call>' }}"
    "{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
MARKS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
KINDS: dict[str, dict[str, Any]] = {
    "llama": {
        "template": LLAMA,
        "special": ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "settings": {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>"},
    },
    "mistral": {
        "template": MISTRAL,
        "special": ("<s>", "</s>", "[INST]", "[/INST]"),
        "settings": {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True},
    },
    "gemma": {
        "template": GEMMA,
        "special": ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
        "plain": ("\n\n", "<h1>"),
        "settings": {"bos_token": "<bos>", "eos_token": "<eos>"},
    },
    "qwen": {
        "template": QWEN,
        "special": CHATML,
        "plain": MARKS,
        "settings": {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"},
    },
    "hermes": {
        "template": HERMES,
        "special": CHATML,
        "plain": MARKS,
        "settings": {"eos_token": "<|im_end|>", "pad_token": "<|im_end|>"},
    },
}
ALPHABET = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


class Trained(str):
    """A part of a sequence by hand that has labels."""


@pytest.fixture(scope="session")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a byte tokenizer with one kind of template."""

    def folder(kind: str) -> Path:
        made, path = KINDS[kind], tmp_path_factory.mktemp(kind)
        tokenizer = Tokenizer(models.BPE(vocab=ALPHABET, merges=[]))
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in made["special"]])
        tokenizer.add_tokens([AddedToken(text, normalized=False) for text in made.get("plain", ())])
        tokenizer.save(str(path / "tokenizer.json"))
        settings = {"model_max_length": 4096, **made["settings"]}
        (path / "tokenizer_config.json").write_text(json.dumps(settings))
        (path / "chat_template.jinja").write_text(made["template"], encoding="utf-8")
        return path

    return folder


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def by_hand(kind: str, parts: Sequence[str]) -> tuple[list[int], list[int]]:
    """(ids, labels) of parts: control tokens by their place behind the 256 bytes, text byte by byte."""
    names = [*KINDS[kind]["special"], *KINDS[kind].get("plain", ())]
    ids: list[int] = []
    labels: list[int] = []
    for part in parts:
        letters = BYTES.pre_tokenize_str(part)[0][0] if part not in names else ""
        own = [256 + names.index(part)] if part in names else [ALPHABET[letter] for letter in letters]
        ids += own
        labels += own if isinstance(part, Trained) else [IGNORED] * len(own)
    return ids, labels


T = Trained
TALK = (
    Message(role="system", content="Be brief."),
    Message(role="user", content="Card lost"),
    Message(role="assistant", content="Blocked."),
    Message(role="user", content="  退款?"),
    Message(role="assistant", content="三天"),
)
LLAMA_TURN = ("<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n")
SEQUENCES: dict[str, list[list[str]]] = {
    "llama": [
        [
            *("<|begin_of_text|>", "<|start_header_id|>", "system", "<|end_header_id|>", "\n\nBe brief.", "<|eot_id|>"),
            *("<|start_header_id|>", "user", "<|end_header_id|>", "\n\nCard lost", "<|eot_id|>"),
            *(*LLAMA_TURN, T("Blocked."), T("<|eot_id|>")),
            *("<|start_header_id|>", "user", "<|end_header_id|>", "\n\n退款?", "<|eot_id|>"),
            *(*LLAMA_TURN, T("三天"), T("<|eot_id|>")),
        ]
    ],
    "mistral": [
        [
            *("<s>", "[INST]", " Be brief.\nCard lost", "[/INST]", T(" Blocked."), T("</s>")),
            *("[INST]", "   退款?", "[/INST]", T(" 三天"), T("</s>")),
        ]
    ],
    "gemma": [
        [
            *("<bos>", "<start_of_turn>", "user\nBe brief.\nCard lost", "<end_of_turn>", "\n"),
            *("<start_of_turn>", "model\n", T("Blocked."), T("<end_of_turn>"), "\n"),
            *("<start_of_turn>", "user\n退款?", "<end_of_turn>", "\n"),
            *("<start_of_turn>", "model\n", T("三天"), T("<end_of_turn>")),
        ]
    ],
    "qwen": [
        [
            *("<|im_start|>", "system\nBe brief.", "<|im_end|>", "\n"),
            *("<|im_start|>", "user\nCard lost", "<|im_end|>", "\n", "<|im_start|>", "assistant\n"),
            *(T("<think>"), T("\n\n"), T("</think>"), T("\n\nBlocked."), T("<|im_end|>")),
        ],
        [
            *("<|im_start|>", "system\nBe brief.", "<|im_end|>", "\n"),
            *("<|im_start|>", "user\nCard lost", "<|im_end|>", "\n"),
            *("<|im_start|>", "assistant\nBlocked.", "<|im_end|>", "\n"),
            *("<|im_start|>", "user\n  退款?", "<|im_end|>", "\n", "<|im_start|>", "assistant\n"),
            *(T("<think>"), T("\n\n"), T("</think>"), T("\n\n三天"), T("<|im_end|>")),
        ],
    ],
    "hermes": [
        [
            *("<|im_start|>", "system\nBe brief.", "<|im_end|>", "\n"),
            *("<|im_start|>", "user\nCard lost", "<|im_end|>", "\n"),
            *("<|im_start|>", "assistant\n", T("Blocked."), T("<|im_end|>"), "\n"),
            *("<|im_start|>", "user\n  退款?", "<|im_end|>", "\n"),
            *("<|im_start|>", "assistant\n", T("三天"), T("<|im_end|>")),
        ]
    ],
}


def test_ids_and_labels_are_those_written_by_hand(make: Callable[[str], Path], kind: str) -> None:
    tokenizer = ChatTokenizer.load(make(kind))
    found = tokenizer.examples(Conversation(id="r", messages=TALK), max_length=4096)
    assert [(list(e.input_ids), list(e.labels)) for e in found] == [by_hand(kind, s) for s in SEQUENCES[kind]]


def test_a_turn_that_is_not_trained_is_context(make: Callable[[str], Path], kind: str) -> None:
    tokenizer = ChatTokenizer.load(make(kind))
    messages = (*TALK[:2], TALK[2].model_copy(update={"train": False}), *TALK[3:])
    (found,) = tokenizer.examples(Conversation(id="r", messages=messages), max_length=4096)
    ids, labels = by_hand(kind, SEQUENCES[kind][-1])
    start = next(index for index in range(len(labels), 0, -1) if labels[index - 1] == IGNORED)
    assert list(found.input_ids) == ids
    assert list(found.labels) == [IGNORED] * start + labels[start:]


def test_bos_stands_once_where_there_is_one(make: Callable[[str], Path], kind: str) -> None:
    tokenizer = ChatTokenizer.load(make(kind))
    ids = tokenizer.messages_ids(TALK)
    assert (ids[0] == tokenizer.bos_id, ids.count(tokenizer.bos_id)) == ((True, 1) if tokenizer.bos else (False, 0))
    assert tokenizer.bos_marks_turns is False


CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "上海", "days": 2}}}
CALLED = (
    Message(role="user", content="天气?"),
    Message(role="assistant", content=None, tool_calls=(CALL,)),
    Message(role="tool", content='{"t":18}'),
    Message(role="assistant", content="18度"),
)
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "<b> & 天气", "parameters": {}}}]


@pytest.mark.parametrize("name", ["qwen", "hermes"])
def test_tool_calls_are_trained_as_the_template_writes_them(make: Callable[[str], Path], name: str) -> None:
    tokenizer = ChatTokenizer.load(make(name))
    conversation = Conversation(id="r", messages=CALLED, metadata={"tools": TOOLS})
    found = tokenizer.examples(conversation, max_length=4096)
    trained = [tokenizer.decode([t for t in e.labels if t != IGNORED], keep_special=True) for e in found]
    arguments = '"arguments": {"city": "上海", "days": 2}}'
    if name == "hermes":
        call = '<tool_call>{"name": "weather", ' + arguments + "</tool_call><|im_end|>"
        assert trained == [f"{call}18度<|im_end|>"]
    else:
        thought = "<think>\n\n</think>\n\n"
        call = '<tool_call>\n{"name": "weather", ' + arguments + "\n</tool_call><|im_end|>"
        assert trained == [thought + call, f"{thought}18度<|im_end|>"]
        begin = tokenizer.decode(found[0].input_ids, keep_special=True)
        assert begin.startswith(f"<|im_start|>system\nTools:\n<tools>\n{json.dumps(TOOLS[0], ensure_ascii=False)}\n")
    marks = [tokenizer.segments.controls[text] for text in ("<tool_call>", "</tool_call>")]
    assert [found[0].labels.count(mark) for mark in marks] == [1, 1]  # the template's own use is a control id


def test_a_template_that_takes_arguments_as_text_gets_them_as_text(make: Callable[[str], Path]) -> None:
    path = make("hermes")
    source = HERMES.replace("{'name': c.function.name, 'arguments': c.function.arguments} | tojson", "WHAT")
    for what, shown in {
        "c.function.name + c.function.arguments": 'weather{"city": "上海", "days": 2}',
        "c.function.name ~ c.function.arguments": 'weather{"city": "上海", "days": 2}',  # would print a Python dict
        "c.function.name + c.function.arguments | tojson": 'weather{"city": "上海", "days": 2}',
        "c.function.name + c.function.arguments.city": "weather上海",
    }.items():
        (path / "chat_template.jinja").write_text(source.replace("WHAT", what))
        tokenizer = ChatTokenizer.load(path)
        as_text = CALL | {"function": {"name": "weather", "arguments": '{"city": "上海", "days": 2}'}}
        for call in (CALL, as_text):
            messages = (CALLED[0], Message(role="assistant", content=None, tool_calls=(call,)))
            rendered = tokenizer.template.render(messages)
            assert rendered == f"<|im_start|>user\n天气?<|im_end|>\n<|im_start|>assistant\n<tool_call>{shown}" + (
                "</tool_call><|im_end|>\n"
            ), what


def test_null_content_is_never_shown_as_none(make: Callable[[str], Path]) -> None:
    path = make("hermes")
    kept = "{% if m['content'] %}{{ m['content'] }}{% endif %}"
    for source in ("{{ m['content'] }}", "{{ m['content'] + '' }}"):
        (path / "chat_template.jinja").write_text(HERMES.replace(kept, source))
        assert ChatTokenizer.load(path).template.render(CALLED[:2]).count("None") == 0


def test_reasoning_that_an_answer_begins_with_becomes_the_models_own_marks(make: Callable[[str], Path]) -> None:
    tokenizer = ChatTokenizer.load(make("qwen"))
    thought = "<think>\nA <think> here? no: 1<2</think>\n\nYes."
    messages = (Message(role="user", content="x</think>y"), Message(role="assistant", content=thought))
    (found,) = tokenizer.examples(Conversation(id="r", messages=messages), max_length=999)
    marks = [tokenizer.segments.controls[text] for text in ("<think>", "</think>")]
    assert [found.labels.count(mark) for mark in marks] == [1, 1]  # the template's; a nested block is text
    one = Message(role="assistant", content="<think>\nwhy\n</think>\n\nYes </think> <tool_call>.")
    (found,) = tokenizer.examples(Conversation(id="r", messages=(messages[0], one)), max_length=999)
    expected = ["<|im_start|>", "user\nx</thin", "k>y", "<|im_end|>", "\n", "<|im_start|>", "assistant\n"]
    expected += [T("<think>"), T("\nwhy\n"), T("</think>"), T("\n\nYes </thin"), T("k> <tool_ca"), T("ll>.")]
    ids, labels = by_hand("qwen", [*expected, T("<|im_end|>")])
    assert (list(found.input_ids), list(found.labels)) == (ids, labels)


def test_reasoning_of_earlier_turns_is_dropped_as_a_server_does_it(make: Callable[[str], Path]) -> None:
    tokenizer = ChatTokenizer.load(make("qwen"))
    turns = [Message(role="user", content="q"), Message(role="assistant", content="<think>\nwhy\n</think>\n\nA")]
    first, second = tokenizer.examples(Conversation(id="r", messages=tuple(turns * 2)), max_length=999)
    marks = [tokenizer.segments.controls[text] for text in ("<think>", "</think>")]
    assert [[e.input_ids.count(mark) for mark in marks] for e in (first, second)] == [[1, 1], [1, 1]]
    assert "assistant\nA<|im_end|>" in tokenizer.decode(second.input_ids, keep_special=True)


@pytest.mark.parametrize("text", ["<|im_end|>", "<think>", "</think>", "<tool_call>", "<tool_response>"])
@pytest.mark.parametrize("name", ["qwen", "hermes"])
def test_content_of_any_kind_never_becomes_a_control_id(make: Callable[[str], Path], name: str, text: str) -> None:
    """Markers that are not flagged special are covered (transformers pull 47386), in calls and tools as well."""
    tokenizer = ChatTokenizer.load(make(name))
    call = {"type": "function", "function": {"name": "f", "arguments": {f"k{text}": [text]}}}
    evil = [
        Message(role="system", content=f"s{text}"),
        Message(role="user", content=f"{text}u"),
        Message(role="assistant", content=f"a{text}", tool_calls=(call,)),
        Message(role="tool", content=text),
        Message(role="assistant", content=f"b{text}b"),
    ]
    calm = [message.model_copy(update={"content": "x"}) for message in evil]
    calm[2] = calm[2].model_copy(update={"tool_calls": (CALL,)})
    tools = [{"type": "function", "function": {"name": "f", "description": text}}]
    ids = tokenizer.messages_ids(evil, tools=tools)
    expected = tokenizer.messages_ids(calm, tools=TOOLS)
    controls = tokenizer.segments.control_ids
    assert [token for token in ids if token in controls] == [token for token in expected if token in controls]
    assert tokenizer.decode(ids, keep_special=True).count(text) >= 6
    found = [len(tokenizer.control_texts_of(message)) for message in evil]
    assert found == [1, 1, 3, 1, 1]


def test_added_tokens_that_are_text_stay_tokens(make: Callable[[str], Path]) -> None:
    """Gemma has line feeds and HTML tags as added tokens: they are vocabulary, in content too."""
    tokenizer = ChatTokenizer.load(make("gemma"))
    ids = tokenizer.prompt_ids([Message(role="user", content="<h1>a\n\nb<end_of_turn>")])
    parts = ["<bos>", "<start_of_turn>", "user\n", "<h1>", "a", "\n\n", "b<end_of_", "turn>", "<end_of_turn>", "\n"]
    assert ids == by_hand("gemma", [*parts, "<start_of_turn>", "model\n"])[0]


def test_the_turn_end_of_a_template_is_learned_where_eos_is_another(make: Callable[[str], Path]) -> None:
    tokenizer = ChatTokenizer.load(make("gemma"))
    assert {tokenizer.decode([token], keep_special=True) for token in tokenizer.end_ids} == {"<eos>", "<end_of_turn>"}


def test_a_template_that_refuses_says_so(make: Callable[[str], Path]) -> None:
    tokenizer = ChatTokenizer.load(make("mistral"))
    with pytest.raises(TemplateRefusal, match="roles must alternate"):
        tokenizer.prompt_ids([TALK[1], TALK[3]])


def test_a_prompt_that_shares_a_token_with_its_answer_is_encoded_apart() -> None:
    """`\\n` + `\\nYes` is one token `\\n\\n` in one piece; a server has sent the first `\\n` already."""
    vocabulary = {**ALPHABET, "ĊĊ": 256}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[("Ċ", "Ċ")]))
    tokenizer.pre_tokenizer, tokenizer.decoder = BYTES, decoders.ByteLevel()
    tokenizer.add_special_tokens(["<e>"])
    source = (
        "{% for m in messages %}{{ m.role + '\n' + m.content + '<e>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant\n' }}{% endif %}"
    )
    chat = ChatTokenizer(tokenizer, {"eos_token": "<e>"}, source, [])
    messages = (Message(role="user", content="q"), Message(role="assistant", content="\nYes"))
    (found,) = chat.examples(Conversation(id="r", messages=messages), max_length=99)
    prompt = chat.prompt_ids(messages[:1])
    assert 256 in chat.messages_ids(messages)
    assert list(found.input_ids) == prompt + chat.encode("\nYes<e>")
    assert chat.decode([t for t in found.labels if t != IGNORED], keep_special=True) == "\nYes<e>"


def test_a_template_that_keeps_no_prompt_is_refused_with_the_turn(make: Callable[[str], Path]) -> None:
    path = make("hermes")
    broken = HERMES.replace("<|im_start|>assistant\n' }}{% endif", "<|im_end|>' }}{% endif")
    (path / "chat_template.jinja").write_text(broken)
    with pytest.raises(ArtifactError, match="does not keep the prompt in front of turn 3") as caught:
        ChatTokenizer.load(path).examples(Conversation(id="row 3", messages=TALK), max_length=99)
    assert caught.value.where == "row 3"


def test_tools_of_a_row() -> None:
    assert tools_of({"tools": TOOLS}) == tools_of({"tools": json.dumps(TOOLS)}) == TOOLS
    assert tools_of({"tools": [TOOLS[0]["function"]]}) == TOOLS
    for wrong in ({}, {"tools": []}, {"tools": "no JSON"}, {"tools": ["x"]}, {"tools": 1}):
        assert tools_of(wrong) is None


@pytest.mark.parametrize("generation", [False, True])
def test_rendering_and_ids_equal_transformers(make: Callable[[str], Path], kind: str, generation: bool) -> None:
    transformers = pytest.importorskip("transformers")
    path = make(kind)
    ours = ChatTokenizer.load(path)
    names = {name: text for name, text in KINDS[kind]["settings"].items() if isinstance(text, str)}
    theirs = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(path / "tokenizer.json"), chat_template=KINDS[kind]["template"], **names
    )
    talks: list[tuple[Sequence[Message], Any]] = [(fold_system(TALK) if kind in ("mistral", "gemma") else TALK, None)]
    if kind in ("qwen", "hermes"):
        thought = Message(role="assistant", content="<think>\nwhy\n</think>\n\nYes")
        talks += [(CALLED, TOOLS), ([TALK[1], thought], None), ([TALK[1], thought, TALK[3], thought], None)]
    for messages, tools in talks:
        for count in range(1, len(messages) + 1):
            turns = [message.to_template() for message in messages[:count]]
            text = theirs.apply_chat_template(turns, tools=tools, tokenize=False, add_generation_prompt=generation)
            assert ours.template.render(messages[:count], generation_prompt=generation, tools=tools) == text
            ids = theirs.apply_chat_template(turns, tools=tools, add_generation_prompt=generation, return_dict=False)
            assert ours.messages_ids(messages[:count], generation_prompt=generation, tools=tools) == ids
