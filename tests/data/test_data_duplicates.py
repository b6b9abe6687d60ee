"""Near duplicates against brute force: every pair compared exactly."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import numpy as np
import pytest

from tunewright.core.errors import MissingExtraError
from tunewright.data.duplicates.components import Components
from tunewright.data.duplicates.near import find_near
from tunewright.data.duplicates.text import comparable, grams

WORDS = (
    "account balance transfer card payment statement branch interest savings deposit currency exchange refund charge "
    "limit please could you tell me why my the was not and when will be has been for with after before since morning "
    "yesterday week month bank application phone number address update change close open new old second monthly yearly "
    "fee cash machine abroad travel insurance loan mortgage rate fixed variable contract sign document identity check"
)
ENGLISH = WORDS.split()
HAN = [chr(point) for point in range(0x4E00, 0x4E00 + 600)]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def edited(text, rate, draw, alphabet):
    """`text` with this share of its characters replaced, deleted or doubled."""
    found = []
    for character in text:
        kind = draw.randrange(3) if draw.random() < rate else None
        found.append({None: character, 0: draw.choice(alphabet), 1: "", 2: character * 2}[kind])
    return "".join(found)


def corpus(seed, originals=120):
    """Chinese and English texts of 40 to 160 characters, four edited copies of each, shuffled."""
    draw = random.Random(seed)
    texts = []
    for number in range(originals):
        if number % 2:
            original, alphabet = " ".join(draw.choices(ENGLISH, k=draw.randrange(8, 26))), LETTERS
        else:
            original, alphabet = "".join(draw.choices(HAN, k=draw.randrange(40, 160))), HAN
        texts += [original, *(edited(original, rate, draw, alphabet) for rate in (0.01, 0.02, 0.03, 0.06))]
    draw.shuffle(texts)
    return texts


def near_pairs(texts, threshold):
    """{(row, later row): Jaccard} of all pairs at or above the threshold, by counting shared grams."""
    holders, found = defaultdict(list), {}
    known = [grams(comparable(text)) for text in texts]
    for row, own in enumerate(known):
        shared = Counter(other for gram in own for other in holders[gram])
        for gram in own:
            holders[gram].append(row)
        for other, count in shared.items():
            value = count / (len(own) + len(known[other]) - count)
            if value >= threshold:
                found[other, row] = value
    return found


def clusters_of(pairs, count):
    components = Components(count)
    if pairs:
        components.join(*(np.array(side) for side in zip(*pairs, strict=True)))
    return tuple(tuple(rows.tolist()) for rows in components.groups() if len(rows) > 1)


@pytest.mark.parametrize("use_rensa", [False, True], ids=["numpy", "rensa"])
@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.9])
def test_recall_and_precision_against_brute_force(use_rensa, threshold):
    if use_rensa:
        pytest.importorskip("rensa")
    above = missed = 0
    for seed in range(3):
        texts = corpus(seed)
        exact = near_pairs(texts, threshold)
        found = find_near(texts, threshold=threshold, seed=seed, use_rensa=use_rensa)
        cluster = found.cluster_of()
        clear = [pair for pair, value in exact.items() if value >= threshold + (1 - threshold) / 6]
        above += len(clear)
        missed += sum(cluster.get(one, -1) != cluster.get(other, -2) for one, other in clear)
        true = dict(enumerate(clusters_of(exact, len(texts))))
        truly = {row: number for number, rows in true.items() for row in rows}
        for rows in found.clusters:  # precision: whatever is joined is joined by pairs that are near
            assert len({truly[row] for row in rows}) == 1
        for row, twin in found.twins.items():
            assert twin.row < row
            if twin.jaccard >= threshold:
                assert exact[twin.row, row] == pytest.approx(twin.jaccard, abs=1e-6)
        assert found.bounded == 0
    assert above > 250
    assert missed <= 0.01 * above


def test_both_ways_and_all_seeds_find_the_same_clusters():
    pytest.importorskip("rensa")
    texts = corpus(11)
    pairs = near_pairs(texts, 0.7)
    exact = clusters_of(pairs, len(texts))
    results = [find_near(texts, seed=seed, use_rensa=rensa).clusters for seed in (1, 2) for rensa in (True, False)]
    for found in results:
        assert len(set(found) ^ set(exact)) <= 2  # a pair on the border of the bands may be missed
    assert find_near(texts, seed=1, use_rensa=False) == find_near(texts, seed=1, use_rensa=False)


def test_a_cluster_is_a_chain_of_near_pairs_and_names_its_first_row():
    base = "how do I change the address of my savings account before the end of the month"
    longer = base + " when I move abroad"
    longest = longer + " with my whole family"
    pairs = near_pairs([base, longest, longer], 0.7)
    assert set(pairs) == {(0, 2), (1, 2)}
    found = find_near([base, longest, longer], seed=7)
    assert found.clusters == ((0, 1, 2),)
    assert found.twins[2].jaccard == pytest.approx(max(pairs.values()), abs=1e-6)
    direct = near_pairs([base, longest], 0.1)[0, 1]
    assert direct < 0.7
    assert (found.twins[1].row, found.twins[1].jaccard) == (0, pytest.approx(direct, abs=1e-6))
    rejection = found.rejection(1, ["a:1", "a:2", "a:3"], longest)
    assert rejection.code == "NEAR_DUPLICATE"
    assert rejection.reason.startswith(f"linked to a:1 through later rows of its cluster: Jaccard with it {direct:.2f}")


def test_case_width_and_punctuation_do_not_tell_texts_apart():
    texts = ["Where is my card, please?", "别的问题", "ｗｈｅｒｅ  is my CARD please！", "where is my purse, honestly?"]
    found = find_near(texts, seed=7)
    assert found.clusters == ((0, 2),)
    assert found.identical == 1
    assert found.twins[2].jaccard == 1
    assert found.rejection(2, list("abcd"), texts[2]).reason == "nearly the same as a: Jaccard 1.00, threshold 0.7"


def test_texts_without_content_and_short_texts():
    assert find_near(["", "?!", "。。", " "], seed=7).clusters == ()
    assert find_near([], seed=7).clusters == ()
    assert find_near(["ok", "no", "Ok.", "好", "好！"], seed=7).clusters == ((0, 2), (3, 4))


def test_threshold_one_joins_equal_gram_sets_only():
    texts = ["abababababab", "abababababababab", "abababababac"]  # the first two have the same two grams
    assert find_near(texts, threshold=1, seed=7).clusters == ((0, 1),)


def orders(count, tail=""):
    draw = random.Random(5)
    return [f"您好，我的订单号是{draw.randrange(10**8):08d}，请帮我查一下物流，谢谢{tail}" for _ in range(count)]


LONG_TAIL = "，已经等了好几天了还没有收到货，麻烦尽快处理，非常感谢您的帮助"
"""With it two orders share 50 of 74 grams or more: most pairs lie between 0.6 and 0.8, around the threshold."""


def test_one_template_is_one_cluster_at_one_comparison_a_row():
    texts = orders(5000, LONG_TAIL + "，之前打过两次客服电话都说已经发出，但是页面上一直显示待揽收，希望给出准确时间")
    found = find_near(texts, seed=7)
    assert [len(rows) for rows in found.clusters] == [5000]
    assert found.verified <= 2 * 5000
    assert found.estimated <= 40 * 5000
    assert found.bounded == 0


@pytest.mark.parametrize("tail", ["", LONG_TAIL], ids=["far apart", "around the threshold"])
def test_unlike_rows_of_one_template_stay_bounded_and_exact(tail):
    texts = orders(1200, tail)
    found = find_near(texts, seed=7)
    assert found.estimated <= 1000 * 1200
    assert found.verified <= 40 * 1200  # all pairs would be 719,400
    assert found.clusters == clusters_of(near_pairs(texts, 0.7), 1200)


def test_rows_that_may_have_missed_pairs_are_counted():
    """The same twenty sentences in ever other choice and order: hundreds of rows around the threshold, and no gram
    that only a few have. Not all pairs can be looked at, and that is said; what is found is still true."""
    draw = random.Random(3)
    sentences = ["".join(draw.choices(LETTERS, k=30)) for _ in range(20)]
    texts = [" ".join(draw.sample(sentences, 15)) for _ in range(500)]
    found = find_near(texts, seed=7)
    true = {row: rows[0] for rows in clusters_of(near_pairs(texts, 0.7), len(texts)) for row in rows}
    assert found.verified <= 40 * 500
    assert found.bounded > 400
    assert len(found.twins) > 100
    assert all(len({true[row] for row in rows}) == 1 for rows in found.clusters)


def test_a_report_shows_the_largest_clusters_with_two_rows():
    texts = ["where is my new bank card", "I want a loan"] + ["where is my new bank card?"] * 2 + ["i want a LOAN"]
    found = find_near(texts, seed=7, use_rensa=False)
    report = found.dump(texts, [f"f:{line}" for line in range(1, 6)], largest=1)
    assert report["largest"] == [
        {
            "rows": 3,
            "first": "f:1",
            "second": "f:3",
            "jaccard": 1.0,
            "first_excerpt": "where is my new bank card",
            "second_excerpt": "where is my new bank card?",
        }
    ]
    counts = {name: report[name] for name in ("rows", "clusters", "duplicates", "identical", "pairs_near", "engine")}
    assert counts == {"rows": 5, "clusters": 2, "duplicates": 3, "identical": 3, "pairs_near": 0, "engine": "numpy"}


def test_rensa_is_asked_for_by_name_only_where_it_is(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert find_near(["a", "a"], seed=1).engine == "numpy"
    with pytest.raises(MissingExtraError, match="rensa is not installed"):
        find_near(["a", "a"], seed=1, use_rensa=True)
