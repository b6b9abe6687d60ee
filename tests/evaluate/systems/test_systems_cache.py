"""Answers on disk: what comes from there is what a fresh run says; a killed run goes on; nothing stale is found."""

from __future__ import annotations

import json
import os
import stat
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from systems_kit import ASKING, LABELS, Counted, local, prompts, row

from tunewright.core.scoring import Sample
from tunewright.evaluate.systems import cache as caches
from tunewright.evaluate.systems.cache import NO_CACHE, AnswerCache, Book
from tunewright.evaluate.systems.protocol import Answer

ROWS = [row(index, task="intent" if index % 3 == 0 else "answer") for index in range(18)]


def timeless(samples: list[Sample]) -> list[dict[str, Any]]:
    return [sample.model_dump(exclude={"seconds"}) for sample in samples]


def test_cached_answers_are_the_fresh_ones_and_no_model_is_opened(tiny: Path, tmp_path: Path) -> None:
    plain = local(tiny, Counted(tiny))
    asked = prompts(plain, ROWS)
    fresh = plain.answer(asked, ASKING)
    chosen = plain.choose(asked, LABELS, batch_size=4)
    assert len({sample.prediction for sample in fresh}) > 3, "the answers must differ for this to say anything"
    cache = AnswerCache(tmp_path)
    first = local(tiny, Counted(tiny), cache)
    assert timeless(first.answer(asked, ASKING)) == timeless(fresh)
    assert first.choose(asked, LABELS, batch_size=4) == chosen
    load = Counted(tiny)
    again = local(tiny, load, cache)
    second = again.answer(asked, ASKING)
    assert timeless(second) == timeless(fresh) and again.choose(asked, LABELS, batch_size=4) == chosen
    assert load.loads == 0, "everything was on disk"
    assert {sample.seconds for sample in second} == {0.0}, "times are never read from disk"
    assert again.time_answer(asked[0], ASKING) > 0 and load.loads == 1


def test_an_interrupted_run_goes_on_where_it_was(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, kept = AnswerCache(tmp_path), []
    write = Book.keep_answer

    def interrupted(book: Book, key: str, row_id: str, answer: Answer) -> None:
        write(book, key, row_id, answer)
        kept.append(row_id)
        if len(kept) == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(Book, "keep_answer", interrupted)
    system = local(tiny, Counted(tiny), cache)
    asked = prompts(system, ROWS)
    with pytest.raises(KeyboardInterrupt):
        system.answer(asked, ASKING)
    lines = next(tmp_path.glob("*.jsonl")).read_text().splitlines()[1:]
    assert [json.loads(line)["id"] for line in lines] == kept and len(kept) == 7
    answers = local(tiny, Counted(tiny), cache).answer(asked, ASKING)
    assert sorted(kept) == sorted(one.id for one in ROWS), "the rest was asked, and nothing twice"
    assert timeless(answers) == timeless(local(tiny, Counted(tiny)).answer(asked, ASKING))


def test_whatever_decides_an_answer_is_in_its_key(tiny: Path, tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path)
    asked = prompts(local(tiny, Counted(tiny)), ROWS[:3])
    local(tiny, Counted(tiny), cache).answer(asked, ASKING)
    for other in (replace(ASKING, max_new_tokens=7), replace(ASKING, batch_size=2)):
        load = Counted(tiny)
        local(tiny, load, cache).answer(asked, other)
        assert load.loads == 1, other
    load = Counted(tiny)
    local(tiny, load, cache, sha256="another").answer(asked, ASKING)
    assert load.loads == 1, "another model"
    longer = [replace(prompt, ids=[*prompt.ids[:-1], 65]) for prompt in asked]
    load = Counted(tiny)
    local(tiny, load, cache).answer(longer, ASKING)
    assert load.loads == 1, "another prompt"
    load = Counted(tiny)
    local(tiny, load, cache).choose(asked, [*LABELS, "pin"], batch_size=4)
    local(tiny, load, cache).choose(asked, LABELS, batch_size=4)
    assert load.loads == 2, "choices among other labels are other choices"


def test_without_a_cache_nothing_is_written(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    load = Counted(tiny)
    system = local(tiny, load, NO_CACHE)
    asked = prompts(system, ROWS[:2])
    assert timeless(system.answer(asked, ASKING)) == timeless(system.answer(asked, ASKING))
    assert load.loads == 1 and not list(tmp_path.iterdir())


def test_equal_questions_are_asked_once(tiny: Path, tmp_path: Path) -> None:
    system = local(tiny, Counted(tiny), AnswerCache(tmp_path))
    one = prompts(system, [ROWS[1]])[0]
    twin = replace(one, conversation=one.conversation.model_copy(update={"id": "twin"}))
    first, second = system.answer([one, twin], ASKING)
    assert (first.id, second.id) == ("row:1", "twin") and first.prediction == second.prediction
    assert len(next(tmp_path.glob("*.jsonl")).read_text().splitlines()) == 2, "the first line says what it is of"


def test_a_cut_line_is_asked_again_and_spoils_no_other(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path)
    book = cache.book({"system": "x"})
    for name in "ab":
        book.keep_answer(name, f"row:{name}", Answer(f"answer {name}", 2, "stop", 9.0, 5))
    path = next(tmp_path.glob("*.jsonl"))
    path.write_bytes(path.read_bytes()[:-9])
    damaged = cache.book({"system": "x"})
    assert damaged.answer("a") == Answer("answer a", 2, "stop", 0.0, 5) and damaged.answer("b") is None
    damaged.keep_answer("b", "row:b", Answer("answer b", 2, "stop"))
    damaged.keep_choice("c", "row:c", "fee")
    again = cache.book({"system": "x"})
    found = (again.answer("b"), again.choice("c"), again.answer("a"))
    assert found == (Answer("answer b", 2, "stop"), "fee", Answer("answer a", 2, "stop", 0.0, 5))
    path.write_text('{"key": "a", "text": 3}\nnot json\n[]\n' + json.dumps({"key": "d", "id": "r", "choice": 1}) + "\n")
    assert cache.book({"system": "x"}).answer("a") is None, "an answer that is no text is no answer"


def test_two_writers_leave_whole_lines(tmp_path: Path) -> None:
    def write(name: str) -> None:
        book = AnswerCache(tmp_path).book({"system": "x"})
        for number in range(150):
            book.keep_answer(f"{name}{number}", "row:1", Answer("é" * 400, 1, "stop"))

    threads = [threading.Thread(target=write, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    book = AnswerCache(tmp_path).book({"system": "x"})
    assert all(book.answer(f"{name}{number}") for name in "abc" for number in range(150))


def test_files_are_private_and_say_which_rows_they_hold(tmp_path: Path) -> None:
    """Answers may hold personal data: `data find` and `data purge` look for the ids."""
    book = AnswerCache(tmp_path / "answers").book({"system": "x"})
    book.keep_answer("k", "raw/a.jsonl:3", Answer("half \ud83d of a pair", 1, "stop"))
    path = next((tmp_path / "answers").glob("*.jsonl"))
    about, line = [json.loads(text) for text in path.read_text(encoding="ascii").splitlines()]
    assert about["about"]["system"] == "x" and line["id"] == "raw/a.jsonl:3"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_only_the_files_used_last_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "_KEPT", 3)
    for number in range(3):
        AnswerCache(tmp_path).book({"system": number}).keep_choice("k", "r", "fee")
        path = AnswerCache(tmp_path).book({"system": number}).path
        assert path is not None
        os.utime(path, (number, number))
    assert AnswerCache(tmp_path).book({"system": 0}).choice("k") == "fee", "reading it makes it the newest"
    AnswerCache(tmp_path).book({"system": 3}).keep_choice("k", "r", "fee")
    known = [AnswerCache(tmp_path).book({"system": number}).choice("k") for number in range(4)]
    assert known == ["fee", None, "fee", "fee"]


def test_a_book_without_a_file_keeps_nothing() -> None:
    book = Book(None, {})
    assert not book.keeps and book.answer("k") is None
