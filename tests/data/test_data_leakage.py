"""Each kind of leakage with a row that leaks and one that barely does not."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import numpy as np
import pytest

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import GateError
from tunewright.data.duplicates.text import comparable, grams
from tunewright.data.splits import documents, leakage
from tunewright.data.splits.leakage import Document, document, leakage_table, refuse_leakage
from tunewright.data.splits.ngrams import ngram_hashes, shared_run
from tunewright.data.splits.options import LeakageLimits
from tunewright.data.splits.shared import FirstSeen


def row(name, question, answer, *, group=None, system=None):
    turns = [("system", system)] if system else []
    turns += [("user", question), ("assistant", answer)]
    messages = tuple(Message(role=role, content=text) for role, text in turns)
    return document(Conversation(id=name, messages=messages), group)


def counts(table, name="test"):
    return {kind: table["sets"][name][kind]["rows"] for kind in leakage.KINDS}


def compare(train, *test, **settings):
    return leakage_table(train, {"test": list(test)}, seed=7, **settings)


HAN_TEXT = "本行借记卡丢失后请立即拨打客服电话办理临时挂失并在七日内携带身份证到柜台补办"
ENGLISH_TEXT = "please bring the signed form and a valid identity document to any branch within seven days"


def test_exact_is_the_same_question_whatever_its_spelling():
    train = [row("a:1", "Where is my card?", "On its way, it should arrive within five days.")]
    same = row("b:1", " where is  my CARD？", "no")
    other = row("b:2", "Where is my cards?", "no")
    table = compare(train, same, other, threshold=0.9)
    assert counts(table) == {"exact": 1, "near": 0, "overlap": 0, "groups": 0}
    assert table["sets"]["test"]["exact"]["examples"] == [
        {
            "id": "b:1",
            "train_id": "a:1",
            "excerpt": "where is my CARD？ no",
            "train_excerpt": "Where is my card? On its way, it should arrive within five days.",
        }
    ]
    assert (table["train_rows"], table["sets"]["test"]["rows"]) == (1, 2)


def test_questions_of_nothing_are_not_the_same_question():
    alone = Conversation(
        id="x", messages=(Message(role="system", content="s"), Message(role="assistant", content="hello"))
    )
    assert document(alone).question == ""
    assert counts(compare([document(alone)], document(alone)))["exact"] == 0


def test_near_is_verified_exactly():
    """abcdefghij... has n - 4 grams; each replaced last letter costs one of them on both sides."""
    letters = "".join(map(chr, range(0x4E00, 0x4E00 + 44)))  # 40 grams
    train = [Document("a:1", "q1", letters), Document("a:2", "q2", "别的" * 9)]
    ends = {count: letters[:-count] + "".join(map(chr, range(0x6E00, 0x6E00 + count))) for count in (7, 8)}
    assert 33 / 47 > 0.7 > 32 / 48
    table = compare(train, Document("b:1", "x", ends[7]), Document("b:2", "y", ends[8]))
    near = table["sets"]["test"]["near"]
    assert near["rows"] == 1
    assert near["examples"] == [
        {"id": "b:1", "train_id": "a:1", "excerpt": ends[7], "train_excerpt": letters, "jaccard": round(33 / 47, 4)}
    ]


def test_overlap_is_twenty_han_characters():
    train = [row("a:1", "卡丢了怎么办", HAN_TEXT)]
    twenty, nineteen = HAN_TEXT[5:25], HAN_TEXT[5:24]
    spread = "，".join([twenty[:7], twenty[7:]])  # punctuation between them hides nothing
    table = compare(
        train, row("b:1", "问", f"据说{spread}。"), row("b:2", "问", f"据说{nineteen}。"), row("b:3", "无", "关")
    )
    assert counts(table) == {"exact": 0, "near": 0, "overlap": 1, "groups": 0}
    (example,) = table["sets"]["test"]["overlap"]["examples"]
    assert (example["id"], example["train_id"], example["shared"]) == ("b:1", "a:1", twenty)


def test_overlap_is_thirteen_words():
    words = ENGLISH_TEXT.split()
    train = [row("a:1", "what do I need", ENGLISH_TEXT)]
    thirteen = row("b:1", "hm", "Well, " + " ".join(words[1:14]).upper() + "!")
    twelve = row("b:2", "hm", "well " + " ".join(words[1:13]))
    table = compare(train, thirteen, twelve)
    assert counts(table)["overlap"] == 1
    assert table["sets"]["test"]["overlap"]["examples"][0]["shared"] == " ".join(words[1:14])


def test_system_turns_do_not_leak():
    train = [row("a:1", "question one", "yes", system=HAN_TEXT + ENGLISH_TEXT)]
    assert counts(compare(train, row("b:1", "another", "no", system=HAN_TEXT + ENGLISH_TEXT))) == {
        "exact": 0,
        "near": 0,
        "overlap": 0,
        "groups": 0,
    }


def test_groups_are_shared_values_and_none_is_no_value():
    train = [row("a:1", "one", "x", group="c7"), row("a:2", "two", "y"), row("a:3", "five", "z", group="")]
    table = compare(
        train, row("b:1", "three", "x", group="c7"), row("b:2", "four", "y"), row("b:3", "six", "", group="c8")
    )
    assert counts(table) == {"exact": 0, "near": 0, "overlap": 0, "groups": 1}
    (example,) = table["sets"]["test"]["groups"]["examples"]
    assert (example["id"], example["train_id"], example["group"]) == ("b:1", "a:1", "c7")


def test_sets_are_counted_apart_and_show_five_examples():
    train = [row(f"a:{i}", f"question {i}", "x") for i in range(20)]
    others = {
        "validation": [row(f"v:{i}", f"question {i}", "y") for i in range(10, 18)],
        "test": [row("t:1", "nothing of the kind", "y")],
        "bench.jsonl": [row("e:1", "question 3", "z"), row("e:2", "question 3", "z")],
        "empty": [],
    }
    table = leakage_table(train, others, seed=7)
    assert [(name, found["rows"], found["exact"]["rows"]) for name, found in table["sets"].items()] == [
        ("validation", 8, 8),
        ("test", 1, 0),
        ("bench.jsonl", 2, 2),
        ("empty", 0, 0),
    ]
    shown = table["sets"]["validation"]["exact"]["examples"]
    assert [(one["id"], one["train_id"]) for one in shown] == [(f"v:{i}", f"a:{i}") for i in range(10, 15)]
    assert [one["train_id"] for one in table["sets"]["bench.jsonl"]["exact"]["examples"]] == ["a:3", "a:3"]


def test_excerpts_are_eighty_characters_of_one_line():
    text = "long\n" * 40
    example = compare([row("a:1", text, "x")], row("b:1", text, "x"))["sets"]["test"]["exact"]["examples"][0]
    assert example["excerpt"] == ("long " * 40)[:80]


class Once:
    """Rows that can be read as often as one likes, one after the other only."""

    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def random_rows(draw, name, count, known=()):
    """Texts of random Han characters; every third with a piece of a known one in it."""
    rows = []
    for number in range(count):
        text = "".join(chr(draw.randrange(0x4E00, 0x4E00 + 2000)) for _ in range(draw.randrange(20, 90)))
        if known and number % 3 == 0:
            source = draw.choice(known).text
            start = draw.randrange(len(source))
            text = text[:10] + source[start : start + draw.randrange(15, 60)]
        if known and number % 7 == 0:
            source = draw.choice(known).text
            text = source[: draw.randrange(len(source) // 2, len(source))]
        rows.append(Document(f"{name}:{number}", text[:12], text))
    return rows


def brute_force(train, others):
    """Rows of each kind, by comparing every pair of rows."""
    found = Counter()
    known = [grams(comparable(one.text)) for one in train]
    windows = {one.text[i : i + 20] for one in train for i in range(len(one.text) - 19)}
    questions = {one.question for one in train}
    for one in others:
        own = grams(comparable(one.text))
        found["near"] += any(len(own & other) / len(own | other) >= 0.7 for other in known)
        found["overlap"] += any(one.text[i : i + 20] in windows for i in range(len(one.text) - 19))
        found["exact"] += one.question in questions
    return found


@pytest.mark.parametrize("use_rensa", [False, True], ids=["numpy", "rensa"])
def test_counts_are_those_of_brute_force(use_rensa, monkeypatch):
    """N-grams in several passes, rows in several batches."""
    if use_rensa:
        pytest.importorskip("rensa")
    monkeypatch.setattr(leakage, "_NGRAMS", 2000)
    monkeypatch.setattr(documents, "_BATCH", 64)
    draw = random.Random(4)
    train = random_rows(draw, "a", 400)
    test = random_rows(draw, "b", 300, train)
    table = leakage_table(Once(train), {"x": Once(test[:100]), "test": Once(test[100:])}, seed=7, use_rensa=use_rensa)
    expected = brute_force(train, test)
    both = Counter(counts(table, "x")) + Counter(counts(table))
    assert min(expected[kind] for kind in ("near", "overlap", "exact")) > 10
    assert both["exact"] == expected["exact"]
    assert both["overlap"] == expected["overlap"]
    assert expected["near"] - 1 <= both["near"] <= expected["near"]  # the bands may miss one in a hundred at 0.7


def test_one_template_in_both_sets_does_not_multiply():
    """Every row shares its buckets with all others; each still finds a training row, at a bounded number of pairs."""
    tail = "请帮我查一下物流，谢谢，已经等了好几天了还没有收到货，麻烦尽快处理，希望给出准确的时间，非常感谢您的帮助"
    rows = [Document(f"r:{n}", f"q{n}", f"您好，我的订单号是{n * 7919 % 10**6:06d}，{tail}") for n in range(1600)]
    table = leakage_table(rows[:1200], {"test": rows[1200:]}, seed=7)
    assert counts(table) == {"exact": 0, "near": 400, "overlap": 400, "groups": 0}


def test_an_iterator_is_refused():
    with pytest.raises(AssertionError, match="only once"):
        leakage_table(iter([]), {}, seed=7)


def test_first_seen_is_the_first_training_row():
    seen = FirstSeen(np.array([5, 9, 5, 2**63], np.uint64))
    seen.see(np.array([9, 9, 4], np.uint64), np.array([0, 1, 1]))
    seen.see(np.array([5, 9, 5], np.uint64), np.array([2, 3, 4]))
    assert seen.rows().tolist() == [2, 0, 2, -1]


def test_ngrams_are_equal_exactly_where_their_words_are():
    draw = random.Random(9)
    words = ["a", "b", "c"]
    runs = defaultdict(set)
    for _ in range(200):
        text = " ".join(draw.choices(words, k=13))
        (value,) = ngram_hashes(text).tolist()
        runs[value].add(text)
    assert all(len(texts) == 1 for texts in runs.values())
    assert len(ngram_hashes("word " * 12)) == 0
    assert len(ngram_hashes("汉" * 19 + " word" * 12)) == 0
    assert len(ngram_hashes("汉" * 25 + " word" * 14)) == 6 + 2
    assert shared_run("汉" * 19, "汉" * 19) == ""


def test_the_gate_names_set_kind_count_and_example():
    train = [row("a:1", "Where is my card?", "x"), row("a:2", "b", HAN_TEXT)]
    table = compare(train, row("t:9", "where is my card?", "y"), row("t:10", "c", HAN_TEXT))
    with pytest.raises(GateError) as caught:
        refuse_leakage(table, LeakageLimits())
    assert caught.value.exit_code == 5
    assert str(caught.value) == (
        "data.max_leakage.exact: 1 of 2 rows of test ask the question of a training row; the limit of exact is 0. "
        "For example t:9 'where is my card? y' and a:1 'Where is my card? x'\n"
        "  next step: take these rows out of the training sources or out of test, or raise the limit"
    )
    refuse_leakage(table, LeakageLimits(exact=1))
    refuse_leakage(table, LeakageLimits(exact=None))
    with pytest.raises(GateError, match=r"share 13 words or 20 Han characters .* the limit of overlap is 0"):
        refuse_leakage(table, LeakageLimits(exact=1, overlap=0))
    with pytest.raises(GateError, match="2 of 2 rows of test are near duplicates of a training row"):
        refuse_leakage(table, LeakageLimits(exact=1, near=0))
