"""Prompts: who is shown the labels, groups that begin alike, cutting; the primary metric for other stages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ConfigError
from tunewright.core.scoring import Sample
from tunewright.evaluate.answers import groups
from tunewright.evaluate.compare import derangement, wrong_answer_floors
from tunewright.evaluate.config import EvaluateConfig, IntentOptions
from tunewright.evaluate.metrics.intent import Intent
from tunewright.evaluate.prompts import Prompt, build_prompts, messages_for, prompt_room, shown_text
from tunewright.evaluate.scorer import applies_to, primary_scorer
from tunewright.models import tiny
from tunewright.models.tokens import ChatTokenizer

LABELS = ["card_lost", "fee"]
INSTRUCTION = "Answer with exactly one of these labels and nothing else: card_lost, fee."


def _config(shown: str = "base", **more: object) -> EvaluateConfig:
    intent = {"name": "intent", "where": {"metadata.task": "intent"}, "labels_in_prompt": shown}
    return EvaluateConfig.model_validate({"metrics": [intent, {"name": "bleu"}], **more})


def _row(*contents: tuple[str, str], task: str = "intent", label: str = "fee") -> Conversation:
    messages = tuple(Message.model_validate({"role": role, "content": text}) for role, text in contents)
    return Conversation(id="r", messages=messages, metadata={"task": task, "intent": label})


PLAIN = _row(("user", "Why the fee?"), ("assistant", "fee"))
WITH_SYSTEM = _row(("system", "Be brief."), ("user", "Why the fee?"), ("assistant", "fee"))
ANSWER = _row(("system", "Be brief."), ("user", "Why?"), ("assistant", "Because."), task="answer")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    tiny.write_tokenizer(folder)
    return ChatTokenizer.load(folder)


def test_only_the_base_is_shown_labels_and_only_for_intent_rows() -> None:
    config = _config()
    base = messages_for(config, LABELS, PLAIN, system="base")
    assert [(m.role, m.content) for m in base] == [("system", INSTRUCTION), ("user", "Why the fee?")]
    longer = messages_for(config, LABELS, WITH_SYSTEM, system="base")
    assert [m.content for m in longer] == [f"Be brief.\n{INSTRUCTION}", "Why the fee?"]
    assert messages_for(config, LABELS, ANSWER, system="base") == ANSWER.prompt
    assert messages_for(config, LABELS, PLAIN, system="tuned") == PLAIN.prompt


@pytest.mark.parametrize(("shown", "has_labels"), [("none", False), ("all", True)])
def test_none_and_all_ask_both_the_same(shown: str, has_labels: bool) -> None:
    base, tuned = (messages_for(_config(shown), LABELS, PLAIN, system=system) for system in ("base", "tuned"))
    assert base == tuned
    assert (INSTRUCTION in str(base)) is has_labels


def test_the_ids_are_those_a_server_would_send(tokenizer: ChatTokenizer) -> None:
    tuned = build_prompts(_config(), LABELS, [PLAIN, ANSWER], tokenizer, system="tuned", room=500)
    assert [prompt.ids for prompt in tuned] == [tokenizer.prompt_ids(row.prompt) for row in (PLAIN, ANSWER)]
    assert [(p.is_intent, p.shows_labels, p.cut_tokens) for p in tuned] == [(True, False, 0), (False, False, 0)]
    base = build_prompts(_config(), LABELS, [PLAIN, ANSWER], tokenizer, system="base", room=500)
    assert [prompt.shows_labels for prompt in base] == [True, False]
    assert INSTRUCTION in tokenizer.decode(base[0].ids)


def test_long_prompts_are_cut_on_the_left_and_counted(tokenizer: ChatTokenizer) -> None:
    whole = tokenizer.prompt_ids(PLAIN.prompt)
    cut = build_prompts(_config(), LABELS, [PLAIN], tokenizer, system="tuned", room=20)[0]
    assert cut.ids == whole[-20:] and cut.cut_tokens == len(whole) - 20
    with pytest.raises(ConfigError, match=r"500 new tokens leave 12 of the model's 512"):
        prompt_room(512, 500, where="evaluate.max_new_tokens")


LLAMA = (
    "{{ bos_token }}{% for m in messages %}{{ '[' + m.role + ']' + m.content }}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)


@pytest.mark.parametrize(("template", "keeps"), [(LLAMA, True), (tiny.TEMPLATE, False)])
def test_a_begin_token_stays_in_front_of_a_cut_prompt_as_in_training(
    tmp_path: Path, template: str, keeps: bool
) -> None:
    """A Llama's begin token stands once and stays; ChatML's opens every turn and goes with the turn that is cut."""
    tiny.write_tokenizer(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(template)
    cutter = ChatTokenizer.load(tmp_path)
    assert cutter.bos_marks_turns is not keeps
    (prompt,) = build_prompts(_config(), LABELS, [PLAIN], cutter, system="tuned", room=20)
    whole = cutter.prompt_ids(PLAIN.prompt)
    assert prompt.ids == ([whole[0], *whole[-19:]] if keeps else whole[-20:])
    assert (len(prompt.ids), prompt.cut_tokens) == (20, len(whole) - 20)
    answer = len(cutter.messages_ids(PLAIN.messages)) - len(whole)
    (trained,) = cutter.examples(PLAIN, max_length=20 + answer - (0 if keeps else 1))
    assert list(trained.input_ids[:20]) == prompt.ids, "what is asked is what was trained"


def test_groups_begin_alike_and_small_ones_are_together_labels_apart() -> None:
    def prompt(group: str, is_intent: bool) -> Prompt:
        return Prompt(PLAIN, [1], is_intent, False, 0, group)

    prompts = [prompt("intent:a", True), *[prompt("intent:b", True)] * 8, prompt("answer:c", False)]
    assert groups(prompts) == [[1, 2, 3, 4, 5, 6, 7, 8], [0], [9]]
    assert groups(prompts, intent_only=True) == [[1, 2, 3, 4, 5, 6, 7, 8], [0]]


def test_the_shown_question() -> None:
    assert shown_text(WITH_SYSTEM.prompt) == "Why the fee?"
    longer = _row(("user", "Hi"), ("assistant", "Hello"), ("user", "Fee?"), ("assistant", "fee"))
    assert shown_text(longer.prompt) == "user: Hi\nassistant: Hello\nuser: Fee?"


def test_the_primary_metric_for_other_stages() -> None:
    config = _config()
    assert applies_to(config, PLAIN) and not applies_to(config, ANSWER)
    samples = [
        Sample(id="1", prompt="", prediction=said, reference="fee", metadata=PLAIN.metadata) for said in ("Fee.", "no")
    ]
    measured = primary_scorer(config, LABELS)(samples)
    assert (measured.metric, measured.value) == ("intent.accuracy", 0.5)
    with pytest.raises(ConfigError, match="applies to none of the 1 rows"):
        primary_scorer(config, LABELS)([samples[0].model_copy(update={"metadata": ANSWER.metadata})])
    bleu = primary_scorer(_config(primary="bleu"), LABELS)(samples)
    assert bleu.metric == "bleu" and applies_to(_config(primary="bleu"), ANSWER)


@pytest.mark.parametrize("primary", ["latency.p50_s", "intent_choice.accuracy"])
def test_a_primary_metric_that_needs_more_than_answers_is_refused_for_other_stages(primary: str) -> None:
    config = EvaluateConfig(primary=primary)
    with pytest.raises(ConfigError, match="cannot score freely generated answers") as caught:
        primary_scorer(config, LABELS)
    assert "choose one of: intent.accuracy, intent.macro_f1, intent.unparseable" in str(caught.value)


@pytest.mark.parametrize("n", [2, 3, 10, 101])
def test_a_derangement_leaves_nothing_in_place(n: int) -> None:
    order = derangement(n, seed=7)
    assert sorted(order) == list(range(n))
    assert all(index != other for index, other in enumerate(order))
    assert order == derangement(n, seed=7)


def test_the_floor_is_what_wrong_answers_score() -> None:
    """All answers right, every label once: another row's label is always wrong. One label only: always right."""

    def samples(labels: list[str]) -> list[Sample]:
        return [Sample(id=x, prompt="", prediction=x, reference=x, metadata={"intent": x}, choice=x) for x in labels]

    metric = Intent(IntentOptions())
    floors = wrong_answer_floors(metric, samples(["a", "b", "c", "d"]), seed=7)
    assert (floors["intent.accuracy"], floors["intent_choice.accuracy"], floors["intent.macro_f1"]) == (0, 0, 0)
    assert wrong_answer_floors(metric, samples(["a"] * 4), seed=7)["intent.accuracy"] == 1
    assert wrong_answer_floors(metric, samples(["a"]), seed=7) == {}
