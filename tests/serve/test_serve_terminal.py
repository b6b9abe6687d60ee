from __future__ import annotations

import artifact_kit as made
import serving_kit as kit

from tunewright.core.chat import Message
from tunewright.models.generate import Sampling, generate
from tunewright.serve import stage
from tunewright.serve.config import ServeConfig
from tunewright.serve.prepared import Loaded
from tunewright.serve.terminal import chat

SAMPLING = Sampling(max_new_tokens=12)


def talk(loaded, lines, **options) -> str:
    """What the terminal shows when `lines` are typed; an exception among them is raised instead."""
    typed, shown = iter(lines), []

    def read_line(prompt: str) -> str:
        shown.append(prompt)
        line = next(typed, EOFError())
        if isinstance(line, BaseException):
            raise line
        return line

    chat(loaded, read_line, shown.append, sampling=SAMPLING, **options)
    return "".join(shown)


def answer(loaded, *texts: str, limit: int = 12) -> str:
    roles = ("user", "assistant")
    turns = [Message(role=roles[index % 2], content=text) for index, text in enumerate(texts)]
    ids = loaded.tokenizer.prompt_ids(turns)
    return generate(loaded.model, loaded.tokenizer, [ids], Sampling(max_new_tokens=limit))[0].text


def test_the_second_answer_knows_the_first_turn():
    loaded = kit.tiny()
    first = answer(loaded, "Hi")
    shown = talk(loaded, ["Hi", "And?", "/exit", "never read"])
    assert first in shown and answer(loaded, "Hi", first, "And?") in shown
    assert answer(loaded, "And?") not in shown and shown.count("you> ") == 3


def test_reset_forgets():
    loaded = kit.tiny()
    shown = talk(loaded, ["Hi", "/reset", "And?"])
    assert answer(loaded, "And?") in shown and "(forgotten)" in shown


def test_empty_lines_and_unknown_commands_are_not_sent():
    loaded = kit.tiny()
    shown = talk(loaded, ["", "  ", "/quit now"])
    assert loaded.model.passes == 0 and "unknown command /quit" in shown


def test_ctrl_c_stops_the_answer_and_at_the_prompt_leaves():
    loaded = kit.tiny()
    shown: list[str] = []
    calls = {"passes": 0}
    step = type(loaded.model).__call__

    class Interrupting:
        device, config = loaded.model.device, loaded.model.config

        def __call__(self, **inputs):
            calls["passes"] += 1
            if calls["passes"] == 6:
                raise KeyboardInterrupt
            return step(loaded.model, **inputs)

    typed = iter(["Hi", KeyboardInterrupt()])

    def read_line(_: str) -> str:
        line = next(typed)
        if isinstance(line, BaseException):
            raise line
        return line

    chat(Loaded(Interrupting(), loaded.tokenizer, 512), read_line, shown.append, sampling=SAMPLING)
    whole = "".join(shown)
    assert "(stopped)" in whole and calls["passes"] == 6 and whole.endswith("\n")


def test_the_oldest_turns_are_forgotten_when_the_context_is_full():
    loaded = kit.tiny()
    shown = talk(loaded, ["x" * 300, "y" * 300, "z" * 600])
    assert "2 oldest turns are forgotten" in shown
    assert answer(loaded, "y" * 300) in shown
    assert "longer than the model's context of 512 tokens" in shown


def test_the_verb_talks_to_what_serve_would_serve(tmp_path):
    workspace = made.workspace(tmp_path)
    made.train(workspace)
    shown: list[str] = []
    lines = iter(["Hi", "/exit"])
    config = ServeConfig(max_new_tokens=5)
    stage.chat(workspace, config, model=made.MODEL, read_line=lambda _: next(lines), write=shown.append)
    assert "longest answer reached" in "".join(shown)
