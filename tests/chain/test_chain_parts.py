"""The parts: where answers part and whether two tokens tie there, bounds, addresses, questions."""

from __future__ import annotations

import pytest
import torch
from chain_kit import Chain

from tunewright.chain import agree, bounds, questions
from tunewright.chain.door import Address
from tunewright.chain.links import LocalLink
from tunewright.chain.questions import Question, Reply
from tunewright.core.chat import Conversation
from tunewright.core.errors import ArtifactError, ConfigError
from tunewright.models.load import for_inference, load_model
from tunewright.models.tokens import ChatTokenizer


class Fixed(LocalLink):
    """Says the given logits [n, V] wherever it is asked; the places it was asked at are kept."""

    def __init__(self, tokenizer: ChatTokenizer, after: dict[str, float]) -> None:
        super().__init__("merged", tokenizer, lambda: None, batch_size=1)
        self.asked: list[list[int]] = []
        self._after = {tokenizer.encode(text)[0]: value for text, value in after.items()}

    def next_logits(self, ids, *, at_once=8):  # type: ignore[no-untyped-def]
        self.asked += [list(one) for one in ids]
        logits = torch.full((len(ids), 259), -9.0)
        for token, value in self._after.items():
            logits[:, token] = value
        return logits


def question(chain: Chain, prompt: str = "a") -> Question:
    row = Conversation.from_row(chain.newest("data").jsonl("test.jsonl")[0])
    return Question(row, row.prompt, chain.tokenizer.encode(prompt), [])


def examined(chain: Chain, reply: Reply, after: dict[str, float], *, tie: float = 0.1) -> agree.Agreement:
    """Against a reference that answered `fee` and ended."""
    tokenizer = chain.tokenizer
    reference = Reply("fee", "stop", tuple(tokenizer.encode("fee")))
    return agree.examine(
        [reply],
        [reference],
        [question(chain)],
        tokenizer=tokenizer,
        reference=Fixed(tokenizer, after),
        tie=tie,
    )


@pytest.mark.parametrize("known", [True, False], ids=["by its tokens", "by its text"])
@pytest.mark.parametrize(("best", "second", "is_tie"), [(1.0, 0.95, True), (1.0, 0.5, False)])
def test_an_answer_may_part_only_where_two_tokens_tie(
    good: Chain, known: bool, best: float, second: float, is_tie: bool
) -> None:
    text = "fry"
    reply = Reply(text, "stop", tuple(good.tokenizer.encode(text)) if known else None)
    found = examined(good, reply, {"e": best, "r": second})
    assert (found.near_ties, len(found.different)) == ((1, 0) if is_tie else (0, 1))
    assert found.first_difference == 1.0
    assert found.equal_tokens == pytest.approx(1 / 3)


def test_the_gap_is_asked_right_behind_the_common_tokens(good: Chain) -> None:
    tokenizer = good.tokenizer
    link = Fixed(tokenizer, {"e": 1.0, "r": 1.0})
    reference = Reply("fee", "stop", tuple(tokenizer.encode("fee")))
    agree.examine(
        [Reply("fer", "stop")], [reference], [question(good, "ab")], tokenizer=tokenizer, reference=link, tie=0.1
    )
    assert link.asked == [tokenizer.encode("ab") + tokenizer.encode("fe")]


def test_ending_early_ties_with_the_end_token(good: Chain) -> None:
    assert examined(good, Reply("fe", "stop"), {"e": 1.0, "<|im_end|>": 0.95}).near_ties == 1
    assert examined(good, Reply("fe", "stop"), {"e": 1.0, "<|im_end|>": 0.5}).near_ties == 0


def test_an_answer_that_was_cut_is_no_tie(good: Chain) -> None:
    assert examined(good, Reply("fe", "length"), {"e": 1.0, "<|im_end|>": 1.0}).near_ties == 0


def test_going_on_behind_the_end_is_counted(good: Chain) -> None:
    assert examined(good, Reply("fee\nuser", "length"), {"e": 1.0}).goes_on == 1
    assert examined(good, Reply("fry", "stop"), {"e": 1.0}).goes_on == 0


def test_half_a_character_parts_where_the_bytes_part(good: Chain) -> None:
    """é is C3 A9 and è C3 A8: two byte tokens, of which the first is the same."""
    tokenizer = good.tokenizer
    first, second = tokenizer.encode("é"), tokenizer.encode("è")
    assert first[0] == second[0] and first[1] != second[1]
    link = Fixed(tokenizer, {})
    reference = Reply("é", "stop", tuple(first))
    agree.examine([Reply("è", "stop")], [reference], [question(good)], tokenizer=tokenizer, reference=link, tie=0.1)
    assert link.asked == [tokenizer.encode("a") + first[:1]]


def test_without_a_difference_nothing_is_asked(good: Chain) -> None:
    tokenizer = good.tokenizer
    link = Fixed(tokenizer, {})
    same = Reply("fee", "stop", tuple(tokenizer.encode("fee")))
    found = agree.examine([same], [same], [question(good)], tokenizer=tokenizer, reference=link, tie=0.1)
    assert not link.asked
    assert (found.same, found.equal_tokens, found.first_difference) == (1, 1.0, None)


def test_bounds_grow_with_the_noise_that_is_there() -> None:
    quiet = torch.zeros(2, 4)
    exact = bounds.measured("float32", together=quiet, alone=quiet, scale=30.0)
    assert (exact.logits, exact.tie) == (1e-3, 2e-3)
    noisy = torch.tensor([[0.0, 0.02, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    wide = bounds.measured("float32", together=noisy, alone=quiet, scale=30.0)
    assert wide.logits == pytest.approx(0.08), "four times the largest difference"
    assert wide.tie == pytest.approx(10 * 0.02 / 8**0.5), "ten times the root mean square"
    half = bounds.measured("bfloat16", together=quiet, alone=quiet, scale=32.0)
    assert (half.logits, half.tie) == (1.0, 0.5), "shares of the largest logit"
    assert "bfloat16: logits may differ by 1" in half.sentence()


def test_the_same_model_computed_together_and_alone_differs_by_noise_only(good: Chain) -> None:
    tokenizer = good.tokenizer
    link = LocalLink(
        "base", tokenizer, lambda: for_inference(load_model(good.root / "base", dtype=torch.float32)), batch_size=4
    )
    prompts = [tokenizer.encode(text) for text in ("one", "a longer one", "two words more than that")]
    together, alone = link.next_logits(prompts), link.next_logits(prompts, at_once=1)
    assert float((together - alone).abs().max()) < 1e-5
    assert not torch.equal(together[0], together[1])
    link.close()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000"),
        ("https://user:secret@example.com/llm/v1", "https://example.com/llm"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_addresses_are_kept_without_path_and_password(given: str, text: str) -> None:
    assert Address.of(given).text == text


@pytest.mark.parametrize("given", ["127.0.0.1:8000", "ftp://a", "http://", "http://a:port", "http://a?x=1"])
def test_other_addresses_are_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="is no address of a server"):
        Address.of(given)


def test_places_inside_an_answer_are_spread_evenly() -> None:
    assert questions._cuts(1) == []
    assert questions._cuts(3) == [1, 2]
    assert questions._cuts(71) == [10, 20, 30, 40, 50, 60, 70]


def test_rows_are_drawn_by_seed_and_none_left_is_an_error(good: Chain) -> None:
    test = [Conversation.from_row(row) for row in good.newest("data").jsonl("test.jsonl")]

    def chosen(seed: int, room: int = 400) -> list[str]:
        found = questions.choose(
            test, good.tokenizer, applies=lambda _: True, ask=lambda row: row.prompt, room=room, rows=5, seed=seed
        )
        return [one.row.id for one in found.questions]

    assert chosen(1) == chosen(1) and len(chosen(1)) == 5
    assert chosen(1) != chosen(2)
    with pytest.raises(ArtifactError, match="12 rows: its prompt is too long"):
        chosen(1, room=4)
