"""A Modelfile for Ollama: its Go template gives the token ids of the trained jinja template, or is left out.

Ollama does not run jinja. Most chat templates are a plain sequence: something before and after each kind of turn. These
pieces are read off the trained template's own rendering, put into a Go template, and the ids of both are compared on
conversations with and without system turn. Where they differ, no TEMPLATE is written.
Format: https://docs.ollama.com/modelfile
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

from tunewright.core.chat import Message
from tunewright.models.template import TemplateRefusal
from tunewright.models.tokens import ChatTokenizer
from tunewright.release.probes import CONVERSATIONS

_MARKS = {"system": "S1Y2S3T4", "user": "U5S6E7R8", "assistant": "A9S0S1I2", "again": "U3N4E5W6"}


@dataclass(frozen=True)
class Pieces:
    """Texts around the turns. begin: before the first turn; to_answer: behind a user turn, where the model goes on;
    before_answer: what stands between that and an earlier answer (DeepSeek's space); default_system: what the template
    says where no system turn is given, empty for most."""

    begin: str
    before_system: str
    after_system: str
    before_user: str
    to_answer: str
    before_answer: str
    after_answer: str
    default_system: str = ""

    def render(self, messages: Sequence[Message]) -> str:
        """The prompt as the Go template gives it; the last turn is a question."""
        has_system = messages[0].role == "system"
        turns = messages if has_system or not self.default_system else (
            Message(role="system", content=self.default_system), *messages
        )  # fmt: skip
        return self.begin + "".join(self._turn(turn.role, turn.content or "") for turn in turns)

    def _turn(self, role: str, content: str) -> str:
        before, after = {
            "system": (self.before_system, self.after_system),
            "user": (self.before_user, self.to_answer),
            "assistant": (self.before_answer, self.after_answer),
        }[role]
        return f"{before}{content}{after}"

    def go(self) -> str:
        """The template in Go's language. Only literal text, Content and Role: no trimming marks."""
        return (
            f"{self.begin}{{{{ range .Messages }}}}"
            f'{{{{ if eq .Role "system" }}}}{self.before_system}{{{{ .Content }}}}{self.after_system}'
            f'{{{{ else if eq .Role "user" }}}}{self.before_user}{{{{ .Content }}}}{self.to_answer}'
            f'{{{{ else if eq .Role "assistant" }}}}{self.before_answer}{{{{ .Content }}}}{self.after_answer}'
            "{{ end }}{{ end }}"
        )


def pieces(tokenizer: ChatTokenizer) -> Pieces | None:
    """The pieces of the trained template; None where it is no plain sequence of turns."""
    turns = {role: Message(role=role, content=_MARKS[role]) for role in ("system", "user", "assistant")}
    again = Message(role="user", content=_MARKS["again"])
    asked, answered = turns["user"], turns["assistant"]
    try:
        head, to_history, between, to_answer = _between(tokenizer, [asked, answered, again])
        before_system, behind_system, _ = _between(tokenizer, [turns["system"], asked])
        after_answer = _between(tokenizer, [asked, answered], generation_prompt=False)[-1]
    except (TemplateRefusal, ValueError):
        return None
    before_user = between.removeprefix(after_answer)
    is_plain = (
        between.startswith(after_answer)
        and to_history.startswith(to_answer)
        and head.endswith(before_user)
        and behind_system.endswith(before_user)
    )
    if not is_plain:
        return None
    found = Pieces(
        begin="",
        before_system=before_system,
        after_system=behind_system.removesuffix(before_user),
        before_user=before_user,
        to_answer=to_answer,
        before_answer=to_history.removeprefix(to_answer),
        after_answer=after_answer,
    )
    return _with_opening(found, head.removesuffix(before_user))


def _with_opening(found: Pieces, opening: str) -> Pieces:
    """opening: what stands before the first user turn where there is no system turn. Either it begins every
    conversation, or it is a whole system turn of the template's own."""
    if opening.startswith(found.before_system) and found.before_system and found.after_system:
        rest = opening.removeprefix(found.before_system)
        if rest.endswith(found.after_system):
            return replace(found, default_system=rest.removesuffix(found.after_system))
    return replace(found, begin=opening, before_system=found.before_system.removeprefix(opening))


def _texts(found: Pieces) -> list[str]:
    return [getattr(found, field.name) for field in fields(found)]


def _between(tokenizer: ChatTokenizer, messages: Sequence[Message], *, generation_prompt: bool = True) -> list[str]:
    """What stands around the contents of these turns. Raises ValueError where one is missing or out of order."""
    text, found = tokenizer.template.render(messages, generation_prompt=generation_prompt), []
    for message in messages:
        before, content, text = text.partition(message.content or "")
        if not content:
            raise ValueError(message.content)
        found.append(before)
    return [*found, text]


def proven(tokenizer: ChatTokenizer) -> tuple[Pieces | None, str]:
    """(the pieces whose ids are the trained template's on every probe, why there are none)."""
    found = pieces(tokenizer)
    if found is None:
        return None, "the chat template is no plain sequence of turns"
    if any(mark in text for text in _texts(found) for mark in ('"""', "{{", "}}")):
        return None, "the chat template writes signs that a Modelfile cannot hold"
    adds_bos = bool(tokenizer.settings.get("add_bos_token")) and tokenizer.bos
    if adds_bos and found.begin.startswith(tokenizer.bos):  # llama.cpp puts it in front itself
        found = replace(found, begin=found.begin.removeprefix(tokenizer.bos))
    for messages in CONVERSATIONS:
        ids = tokenizer.encode((tokenizer.bos if adds_bos else "") + found.render(messages))
        if ids != tokenizer.prompt_ids(messages):
            turns = " and ".join(message.role for message in messages)
            return None, f"its token ids are not those of the trained template for the turns {turns}"
    return found, ""


def modelfile(tokenizer: ChatTokenizer, *, weights: str, context: int) -> tuple[str, str]:
    """(text of the Modelfile, why its template is left out; empty where it is proven). weights: path of the GGUF file
    from the Modelfile; context: tokens of prompt and answer."""
    found, why = proven(tokenizer)
    lines = [f"FROM {weights}"]
    if found is None:
        lines.append(f"# No TEMPLATE: {why}. Ollama then guesses one; llama-server runs the trained template itself.")
    else:
        lines.append(f'TEMPLATE """{found.go()}"""')
        if found.default_system:
            lines.append(f'SYSTEM """{found.default_system}"""')
    for token in sorted(tokenizer.end_ids):
        text = tokenizer.decode([token], keep_special=True)
        lines.append(f'PARAMETER stop "{text}"')
    lines.append(f"PARAMETER num_ctx {context}")
    return "\n".join(lines) + "\n", why
