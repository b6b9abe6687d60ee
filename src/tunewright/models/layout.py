"""Where the trained turns of a conversation stand in the ids of its renderings, found without any mark of the
template's (`{% generation %}`): by the rendering of the prompt in front of each turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError
from tunewright.models.controls import nested_texts, texts_of
from tunewright.models.frames import FramedTurns, Frames
from tunewright.models.segments import Rendered, Segments
from tunewright.models.template import ChatTemplate, Tools


@dataclass(slots=True)
class TrainedTurn:
    """One trained turn. own: the rendering that ends with it; start, end: its trained ids there, end token included;
    answer: the text of `own` behind the generation prompt; exact: whether `own.ids` are those of the rendering in one
    piece, False where prompt and answer had to be encoded apart."""

    index: int
    own: Rendered
    start: int
    end: int
    answer: str
    exact: bool


@dataclass(slots=True)
class Layout:
    """A conversation's renderings. whole: that of all turns up to the last trained one, in which every trained turn
    stands as in its own; None where the template rewrites earlier turns. spells_controls: whether a turn or a tool
    spells a control token."""

    turns: tuple[TrainedTurn, ...]
    whole: Rendered | None
    spells_controls: bool = False

    def fits(self, max_length: int) -> bool:
        """Whether one sequence holds everything."""
        return self.whole is not None and self.turns[-1].end <= max_length


class Views:
    """Renderings of the first n messages of a conversation; what is the same for all n is done once."""

    def __init__(
        self, template: ChatTemplate, segments: Segments, messages: Sequence[Message], *, tools: Tools | None, bos: int
    ) -> None:
        """bos: id that is put in front where the template writes none, -1 for none."""
        self._template, self._segments, self._messages, self._bos = template, segments, messages, bos
        turns = template.turns(messages)
        texts = texts_of(turns) + (list(nested_texts(tools)) if tools else [])
        self._shield = segments.shield(texts)
        self.spells_controls = self._shield is not None
        self._turns = turns if self._shield is None else [self._shield.cover_turn(turn) for turn in turns]
        self._tools = tools if self._shield is None else self._shield.cover(tools)

    def render(self, count: int, *, generation_prompt: bool) -> Rendered:
        """The first `count` messages."""
        is_all = count == len(self._messages)
        turns = self._turns if is_all else self._turns[: self._template.count_turns(self._messages[:count])]
        text = self._template.render_turns(turns, generation_prompt=generation_prompt, tools=self._tools)
        found = self._segments.encode(text, self._shield)
        if self._bos >= 0 and found.ids[:1] != [self._bos]:
            found.ids.insert(0, self._bos)
        return found

    def apart(self, prompt: Rendered, whole: Rendered) -> Rendered:
        """`whole` with the ids of `prompt` in front and the rest of the text encoded alone."""
        rest = self._segments.encode(whole.text[len(prompt.text) :], self._shield)
        return Rendered(whole.text, prompt.ids + rest.ids)


class FramedViews:
    """The same renderings from `frames`, for contents that they hold. plain: makes the views to ask where a frame is
    missing; they are made when needed."""

    spells_controls = False

    def __init__(
        self, frames: Frames, segments: Segments, turns: FramedTurns, *, bos: int, plain: Callable[[], Views]
    ) -> None:
        """bos: see Views."""
        self._frames, self._segments, self._bos = frames, segments, bos
        self._turns, self._plain = turns, plain

    def render(self, count: int, *, generation_prompt: bool) -> Rendered:
        """The first `count` messages."""
        frame = self._frames.of(self._turns.roles[:count], generation_prompt=generation_prompt)
        if frame is None:
            return self._plain().render(count, generation_prompt=generation_prompt)
        found = self._segments.framed(frame, self._turns.contents)
        if self._bos >= 0 and found.ids[:1] != [self._bos]:
            found.ids.insert(0, self._bos)
            found.starts = [place + 1 for place in found.starts]
        return found

    def turn(self, index: int, end_ids: Set[int]) -> TrainedTurn | None:
        """A trained turn from one rendering, where the prompt's part of it is known; None where it is not."""
        junction = self._frames.junction(self._turns.roles[: index + 1])
        if junction is None or not self._segments.is_used:
            return None
        own = self.render(index + 1, generation_prompt=False)
        tail = self._segments.part(junction.tail) if junction.tail else []
        place = junction.own.open[junction.open][0]
        start = own.starts[junction.open] + len(tail)
        if own.ids[start - len(tail) : start] != tail:
            return None
        end = _end(own.ids, start, end_ids)
        answer = own.parts[place][len(junction.tail) :] + "".join(own.parts[place + 1 :])
        return TrainedTurn(index, own, start, end, answer, exact=True) if end else None

    def apart(self, prompt: Rendered, whole: Rendered) -> Rendered:
        """See Views."""
        rest = self._segments.encode(whole.text[len(prompt.text) :])
        return Rendered(whole.text, prompt.ids + rest.ids)


def lay_out(conversation: Conversation, views: Views | FramedViews, *, end_ids: Set[int]) -> Layout:
    """Where each trained turn stands. views: of the messages up to the last trained one at least.

    Raises TemplateRefusal, and ArtifactError that names the turn whose prompt or end token the template leaves out.
    """
    trained = [index for index, message in enumerate(conversation.messages) if message.trained]
    if not trained:
        return Layout((), None)
    turns = tuple(_turn(views, index, end_ids, where=conversation.id) for index in trained)
    whole = turns[-1].own
    is_kept = len(turns) == 1 or all(turn.own.ids[: turn.end] == whole.ids[: turn.end] for turn in turns[:-1])
    return Layout(turns, whole if is_kept else None, views.spells_controls)


def _turn(views: Views | FramedViews, index: int, end_ids: Set[int], *, where: str) -> TrainedTurn:
    """Trained are the ids behind the generation prompt up to and including the end token.

    Where the texts of prompt and answer would share a token, the answer is encoded apart: a server has sent the
    prompt's ids before the model writes the first one of its own.
    """
    if isinstance(views, FramedViews) and (known := views.turn(index, end_ids)):
        return known
    own = views.render(index + 1, generation_prompt=False)
    prompt = views.render(index, generation_prompt=True)
    start = len(prompt.ids)
    exact = own.ids[:start] == prompt.ids
    continues = own.text.startswith(prompt.text)
    if not exact and continues:
        own = views.apart(prompt, own)
    elif not exact:
        raise _unusable(f"the template does not keep the prompt in front of turn {index + 1}", where)
    end = _end(own.ids, start, end_ids)
    if not end:
        raise _unusable(f"the template writes no end token behind turn {index + 1}", where)
    return TrainedTurn(index, own, start, end, own.text[len(prompt.text) :] if continues else "", exact)


def _end(ids: Sequence[int], start: int, end_ids: Set[int]) -> int:
    """Behind the first end token from `start` on, 0 where there is none."""
    for place in range(start, len(ids)):
        if ids[place] in end_ids:
            return place + 1
    return 0


def _unusable(problem: str, where: str) -> ArtifactError:
    fix = "the model's chat template cannot be trained turn by turn; use another template"
    return ArtifactError(problem, where=where, fix=fix)
