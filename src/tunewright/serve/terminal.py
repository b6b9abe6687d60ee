"""Chat in a terminal: streamed answers with history. Reading and writing are passed in, so tests need no terminal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from tunewright.core.chat import Message
from tunewright.models.generate import Request, RunningBatch, Sampling
from tunewright.models.template import TemplateRefusal
from tunewright.serve.prepared import Loaded

PROMPT = "you> "
HELP = "/reset forgets the conversation, /exit (or end of input) leaves, Ctrl-C stops an answer"


@dataclass
class _History:
    """The turns so far; `system` stays through `/reset`."""

    system: tuple[Message, ...]
    turns: list[Message] = field(default_factory=list)

    @property
    def messages(self) -> list[Message]:
        return [*self.system, *self.turns]


def chat(
    loaded: Loaded,
    read_line: Callable[[str], str],
    write: Callable[[str], None],
    *,
    sampling: Sampling,
    system: str | None = None,
) -> None:
    """Talks until `/exit`, end of input, or Ctrl-C at the prompt. `read_line` takes the prompt, as `input` does.

    Turns that no longer fit into the context are forgotten from the oldest on, and that is said.
    """
    history = _History((Message(role="system", content=system),) if system else ())
    write(f"{HELP}\n")
    while True:
        try:
            line = read_line(PROMPT).strip()
        except (EOFError, KeyboardInterrupt):
            write("\n")
            return
        if line == "/exit":
            return
        if line == "/reset":
            history.turns.clear()
            write("(forgotten)\n")
        elif line.startswith("/"):
            write(f"unknown command {line.split()[0]}: {HELP}\n")
        elif line:
            _turn(loaded, history, line, sampling, write)


def _turn(loaded: Loaded, history: _History, line: str, sampling: Sampling, write: Callable[[str], None]) -> None:
    history.turns.append(Message(role="user", content=line))
    try:
        prompt = _prompt(loaded, history, write)
    except TemplateRefusal as refusal:
        history.turns.pop()
        write(f"{refusal.problem}\n")
        return
    if prompt is None:
        history.turns.pop()
        write(f"this is longer than the model's context of {loaded.context} tokens\n")
        return
    text = _answer(loaded, prompt, sampling, write)
    history.turns.append(Message(role="assistant", content=text))


def _prompt(loaded: Loaded, history: _History, write: Callable[[str], None]) -> list[int] | None:
    """Ids of the conversation after forgetting what does not fit; None when the last turn alone does not."""
    forgotten = 0
    while True:
        ids = loaded.tokenizer.prompt_ids(history.messages)
        if len(ids) < loaded.context:
            break
        if len(history.turns) == 1:
            return None
        del history.turns[:2]
        forgotten += 2
    if forgotten:
        write(f"(the {forgotten} oldest turns are forgotten: the context holds {loaded.context} tokens)\n")
    return ids


def _answer(loaded: Loaded, prompt: list[int], sampling: Sampling, write: Callable[[str], None]) -> str:
    """Streams the answer; Ctrl-C stops it and keeps what was shown."""
    limit = min(sampling.max_new_tokens, loaded.context - len(prompt))
    request = Request(prompt, replace(sampling, max_new_tokens=limit), on_text=write)
    batch = RunningBatch(loaded.model, loaded.tokenizer)
    try:
        batch.add([request])
        while batch.rows:
            batch.step()
    except KeyboardInterrupt:
        write(" (stopped)\n")
        return request.text[: request.sent]
    write(" (cut: longest answer reached)\n" if request.finish == "length" else "\n")
    return request.text
