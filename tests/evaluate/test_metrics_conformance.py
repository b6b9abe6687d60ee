"""What every metric over answers owes, run over all of the registry; and equality with sacrebleu and rouge-score."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ConfigError
from tunewright.core.scoring import Measured, Sample, to_score
from tunewright.evaluate.config import METRICS, BleuOptions, EvaluateConfig, RougeOptions
from tunewright.evaluate.corpus import Corpus
from tunewright.evaluate.metrics.bleu import Bleu
from tunewright.evaluate.metrics.characters import tokens
from tunewright.evaluate.metrics.chrf import Chrf, corpus_chrf
from tunewright.evaluate.metrics.compat import Compat, bleu4, sequence_rouge, set_rouge
from tunewright.evaluate.metrics.options import ChrfOptions, CompatOptions
from tunewright.evaluate.metrics.rouge import Rouge
from tunewright.evaluate.score import configured
from tunewright.evaluate.scorer import (
    CorpusMetric,
    FolderMetric,
    ModelMetric,
    PairMetric,
    RowMetric,
    corpus_metrics,
    primary_scorer,
    row_metrics,
)
from tunewright.models.load import load_model
from tunewright.models.tokens import ChatTokenizer

NAMES = [name for name in METRICS.entries if issubclass(METRICS.target(name), RowMetric)]
TEXT = ("bleu", "rouge", "chrf", "exact", "contains", "math", "compat")
"""Metrics that compare an answer with its reference text."""
ROWS = [
    ("card_lost", "card_lost"), ("您的卡已经冻结。", "您的卡已冻结，请致电95588。"), ("", "请先致电网点。"), ("  \n",
    "73"),
    ("The answer is 73.", "70+3=<<70+3=73>>73\n#### 73"), ('{"slots": {"date": "Monday"}}', '{"date": "Monday"}'),
    ("抱歉，我不能提供帮助。", "否"), ("```json\n{}\n```", "{}"), ("\ud7ff\U0001f600 \u202e\x00", "ok"), ("1e999999",
    "5"),
]  # fmt: skip
TURNS = [
    {"role": "user", "content": "?", "time": "2026-03-01T09:00:00Z"},
    {"role": "assistant", "content": "!", "time": "2026-03-01T09:00:30Z"},
]
"""A contact of half a minute, for the metrics of logs."""
SENTENCES = [
    "a", "好", "。", "yes", "两字", "ok then", "Prüfung 3.5 и ещё!", "請致電網點", "The fee can be waived once a year.",
    "カードを止めました。", "您的卡已冻结，请致电95588。", "บัตรถูกระงับ", "카드가 정지되었습니다", "73", "答案是73。",
]  # fmt: skip


def build(name: str, **options: Any) -> RowMetric:
    config = EvaluateConfig.model_validate({"metrics": [{"name": name, **options}]})
    return row_metrics(config, ("card_lost",))[0]


def samples(pairs: Sequence[tuple[str, str]], **metadata: Any) -> list[Sample]:
    known = {"intent": "card_lost", "slots": {"date": "Monday"}, "resolved": True, "turns": TURNS, **metadata}
    return [
        Sample(id=str(i), prompt="?", prediction=said, reference=right, metadata=known)
        for i, (said, right) in enumerate(pairs)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_keys_shapes_ranges_and_signatures(name: str) -> None:
    metric, rows = build(name), samples(ROWS)
    found = metric.measure(rows)
    assert found, "it applies to these rows"
    keys = [one.metric for one in found]
    assert len(keys) == len(set(keys))
    assert set(keys) <= set(METRICS.target(name).metric_keys(METRICS.options(name)(name=name)))
    for one in found:
        assert one.metric == name or one.metric.startswith((f"{name}.", "rouge"))
        assert one.version >= 1 and one.signature
        assert one.statistics.ndim == 2 and 0 < len(one.statistics) <= len(rows)
        assert np.isfinite(one.statistics).all()
        assert 0 <= one.value <= (100 if one.unit == "points" else 1)
        resampled = one.aggregate(np.repeat(one.statistics[None], 3, axis=0))
        assert resampled.shape == (3,) and np.allclose(resampled, one.value)
        score = to_score(one, seed=7)
        assert score.low <= score.value + 1e-12 and score.value <= score.high + 1e-12
        if one.yes_no:
            assert one.statistics.shape[1] == 1 and set(np.unique(one.statistics)) <= {0, 1}


@pytest.mark.parametrize("name", NAMES)
def test_the_same_rows_give_the_same_numbers_in_any_order(name: str) -> None:
    metric, rows = build(name), samples(ROWS)
    turned = random.Random(0).sample(rows, len(rows))
    assert _values(metric, rows) == _values(metric, rows)
    assert _values(metric, turned) == pytest.approx(_values(metric, rows))


def _values(metric: RowMetric, rows: Sequence[Sample]) -> dict[str, float]:
    return {one.metric: one.value for one in metric.measure(rows)}


@pytest.mark.parametrize("name", NAMES)
def test_where_keeps_the_rows_it_names(name: str) -> None:
    metric = build(name, where={"metadata.task": "this"})
    inside, outside = samples(ROWS[:4], task="this"), samples(ROWS[4:], task="other")
    assert [metric.applies(row.metadata) for row in [*inside, *outside]] == [True] * 4 + [False] * 6
    assert metric.measure(outside) == [] and metric.measure([]) == []
    assert _values(metric, [*outside, *inside]) == _values(build(name), inside)


@pytest.mark.parametrize("name", TEXT)
def test_an_empty_prediction_scores_0(name: str) -> None:
    for empty in ("", "  \n", "\u3000"):
        found = build(name).measure(samples([(empty, "请先致电网点。"), (empty, "73")]))
        assert [one.value for one in found if one.metric in (name, "math.accuracy") or name in ("rouge", "compat")]
        assert all(one.value == 0 for one in found if one.higher_is_better and one.metric != "math.arithmetic_valid")


@pytest.mark.parametrize("name", ["bleu", "rouge", "chrf", "exact", "contains", "refusal"])
def test_an_empty_prediction_is_counted(name: str) -> None:
    found = build(name).measure(samples([("", "好的"), ("好的", "好的"), (" \n", "好的")]))
    assert all("|empty:2" in one.signature for one in found)


@pytest.mark.parametrize("text", SENTENCES)
@pytest.mark.parametrize("name", ["bleu", "rouge", "chrf", "exact", "contains"])
def test_identical_texts_are_perfect_at_any_length_and_language(name: str, text: str) -> None:
    for one in build(name).measure(samples([(text, text)])):
        assert one.value == pytest.approx(100 if one.unit == "points" else 1, abs=1e-9)


@pytest.mark.parametrize("text", SENTENCES)
@pytest.mark.parametrize("name", ["bleu", "rouge", "chrf", "exact", "contains", "math"])
def test_a_complete_right_answer_pasted_four_times_never_gains(name: str, text: str) -> None:
    reference = f"{text} {text[::-1]}"  # so that the single answer leaves something to gain
    for right in (text, reference):
        once = _values(build(name), samples([(right, right)]))
        for glue in ("", " ", "\n"):
            four = _values(build(name), samples([(glue.join([right] * 4), right)]))
            assert all(four[key] <= once[key] + 1e-9 for key in four if key != "math.unparseable")


@pytest.mark.parametrize("name", ["bleu", "rouge", "chrf"])
def test_pasting_costs_half_or_more(name: str) -> None:
    for text in ("请致电网点", "The fee can be waived once a year."):
        for one in build(name).measure(samples([(" ".join([text] * 4), text)])):
            assert one.value < (65 if name == "chrf" else 50)  # chrF2 counts recall four times


def _corpus(seed: int, *, chinese: bool) -> list[tuple[str, str]]:
    draw = random.Random(seed)
    english = ["the", "fee", "card", "can", "be", "waived", "once", "a", "year", "3.5", "isn't"]
    words = list("卡费年的可以减免冻结请电话号码") if chinese else english
    texts = ["".join(draw.choices(words, k=draw.randint(6, 30))) if chinese else " ".join(draw.choices(words, k=12))
             for _ in range(60)]  # fmt: skip
    mixed = [(text if draw.random() < 0.3 else "".join(draw.sample(text, len(text)))) for text in texts]
    return list(zip(mixed, texts, strict=True))


@pytest.mark.parametrize("chinese", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_bleu_and_chrf_equal_sacrebleu(seed: int, chinese: bool) -> None:
    pairs = [*_corpus(seed, chinese=chinese), ("", "年费" if chinese else "the fee"), ("a", "a"), ("好", "好的")]
    said, right = [p for p, _ in pairs], [[r for _, r in pairs]]
    bleu = Bleu(BleuOptions()).measure(samples(pairs))[0]
    scorer = BLEU(effective_order=True, tokenize="zh" if chinese else "13a")
    assert bleu.value == pytest.approx(scorer.corpus_score(said, right).score, abs=1e-9)
    chrf = Chrf(ChrfOptions()).measure(samples(pairs))[0]
    assert chrf.value == pytest.approx(CHRF().corpus_score(said, right).score, abs=1e-9)
    assert 1 < chrf.value < 99
    for pair in pairs:
        one = Chrf(ChrfOptions()).measure(samples([pair]))[0]
        assert one.value == pytest.approx(CHRF().sentence_score(pair[0], [pair[1]]).score, abs=1e-9)


def test_resampled_chrf_equals_sacrebleu_and_so_does_its_signature() -> None:
    pairs = _corpus(9, chinese=False)[:12]
    measured = Chrf(ChrfOptions()).measure(samples(pairs))[0]
    rows = np.random.default_rng(0).integers(0, len(pairs), size=(50, len(pairs)))
    scorer = CHRF()
    expected = [
        scorer.corpus_score([pairs[i][0] for i in chosen], [[pairs[i][1] for i in chosen]]).score for chosen in rows
    ]
    assert np.abs(corpus_chrf(measured.statistics[rows]) - expected).max() < 1e-9
    shared = str(scorer.get_signature()).rpartition("|version")[0]
    assert set(shared.split("|")) <= set(measured.signature.split("|"))


@pytest.mark.parametrize("chinese", [False, True])
def test_rouge_equals_rouge_score_with_the_same_tokens(chinese: bool) -> None:
    module = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge_score is not installed")

    class SameTokens:
        def tokenize(self, text: str) -> list[str]:
            return tokens(text)

    scorer = module.RougeScorer(["rouge1", "rouge2", "rougeL"], tokenizer=SameTokens())
    for said, right in _corpus(3, chinese=chinese):
        expected = {key: 100 * value.fmeasure for key, value in scorer.score(right, said).items()}
        found = {one.metric: one.value for one in Rouge(RougeOptions()).measure(samples([(said, right)]))}
        assert found == pytest.approx(expected, abs=1e-9)


GOLDEN = [
    ("您的卡已经冻结。", "您的卡已冻结，请致电95588。", 15.719, 62.5, 28.5714, 62.5,
     "您/的/卡/已经/冻结/。", "您/的/卡/已/冻结/，/请/致电/95588/。"),
    ("好的", "好的", 59.4604, 100.0, 100.0, 100.0, "好/的", "好/的"),
    ("年费可以减免ATM手续费", "年费每年可以减免一次。", 25.2119, 54.5455, 22.2222, 54.5455,
     "年费/可以/减免/ATM/手续费", "年费/每年/可以/减免/一次/。"),
    ("完全无关", "补卡需要5个工作日。", 0, 0, 0, 0, "完全/无关", "补卡/需要/5/个/工作日/。"),
    ("补卡需要5个工作日。" * 4, "补卡需要5个工作日。", 21.8943, 100.0, 90.9091, 40.0,
     "/".join(["补卡/需要/5/个/工作日/。"] * 4), "补卡/需要/5/个/工作日/。"),
    ("第一句。第二句！是吗？好", "第一句。第二句是。好吗？", 60.0034, 93.3333, 42.8571, 75.0,
     "第一句/。/第二句/！/是/吗/？/好", "第一句/。/第二句/是/。/好/吗/？"),
]  # fmt: skip
"""Prediction, reference, BLEU-4, ROUGE-1, -2, -L and both texts' jieba words, computed once with nltk 3.10.4
(sentence_bleu, method3), rouge-chinese 1.0.3 and jieba 0.42.1 the way LLaMA-Factory's ComputeSimilarity does."""


@pytest.mark.parametrize(("said", "right", "bleu", "one", "two", "lcs", "words", "wanted"), GOLDEN)
def test_compat_gives_the_numbers_of_llama_factory(
    said: str, right: str, bleu: float, one: float, two: float, lcs: float, words: str, wanted: str
) -> None:
    ours, theirs = words.split("/"), wanted.split("/")
    assert bleu4(said, right) == pytest.approx(bleu, abs=5e-5)
    assert set_rouge(ours, theirs, order=1) == pytest.approx(one, abs=5e-5)
    assert set_rouge(ours, theirs, order=2) == pytest.approx(two, abs=5e-5)
    assert sequence_rouge(ours, theirs) == pytest.approx(lcs, abs=5e-5)


def test_compat_keys() -> None:
    found: list[Measured] = Compat(CompatOptions()).measure(samples([("好的", "好的")]))
    assert [one.metric for one in found] == Compat.metric_keys(CompatOptions())
    assert found[0].value == pytest.approx(59.4604)
    assert "LLaMA-Factory" in found[0].signature


OF_MODEL: dict[str, dict[str, Any]] = {
    "latency": {"new_tokens": 2, "repeats": 2},
    "perplexity": {"path": "general.txt"},
    "forgetting": {"path": "general.jsonl"},
    "memorization": {"prefix_tokens": 2, "continuation_tokens": 4},
    "judge": {"address": {"base_url": "http://127.0.0.1:9/v1", "model": "nobody"}},
    "lm_eval": {"tasks": {"gsm8k": "exact_match"}},
}
"""Metrics that are none over answers, with options that make them quick."""
KINDS = (RowMetric, ModelMetric, CorpusMetric, FolderMetric, PairMetric)
MODEL_CONFIG = EvaluateConfig.model_validate({"metrics": [{"name": name, **more} for name, more in OF_MODEL.items()]})


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("corpus")
    (root / "general.txt").write_text("The sea is deep.\n" * 20, encoding="utf-8")
    row = '{"prompt": "Hi", "completion": "Good day to you."}\n'
    (root / "general.jsonl").write_text(row * 3, encoding="utf-8")
    turns = (Message(role="user", content="Fee?"), Message(role="assistant", content="No fee at all."))
    rows = tuple(Conversation(id=str(n), messages=turns) for n in range(4))
    return Corpus(test=rows, training=rows, system="tuned", max_length=256, seed=7, batch_size=4, root=root)


@pytest.mark.parametrize("name", METRICS.entries)
def test_every_metric_is_of_one_kind(name: str) -> None:
    assert sum(issubclass(METRICS.target(name), kind) for kind in KINDS) == 1
    assert (name in NAMES) != (name in OF_MODEL), "a metric that is none over answers is tested below"


@pytest.mark.parametrize("name", ["perplexity", "forgetting", "memorization"])
def test_a_metric_over_the_corpus_gives_what_it_foresees(name: str, corpus: Corpus, tiny: Path) -> None:
    model, tokenizer = load_model(tiny, dtype=torch.float32), ChatTokenizer.load(tiny)
    metric = corpus_metrics(MODEL_CONFIG)[name]
    found, foreseen = metric.measure_corpus(model, tokenizer, corpus), metric.foresee_corpus(corpus)
    again = metric.measure_corpus(model, tokenizer, corpus)
    keys = METRICS.target(name).metric_keys(next(one for one in MODEL_CONFIG.metrics if one.name == name))
    assert [one.metric for one in found] == [one.metric for one in foreseen] == keys
    for one, expected, second in zip(found, foreseen, again, strict=True):
        kind = (one.version, one.yes_no, one.paired, one.unit, one.higher_is_better, one.statistics.shape)
        assert kind == (
            *(expected.version, expected.yes_no, expected.paired, expected.unit),
            *(expected.higher_is_better, expected.statistics.shape),
        )
        assert one.paired and one.signature and np.isfinite(one.statistics).all()
        assert one.aggregate(np.repeat(one.statistics[None], 3, axis=0)).tolist() == pytest.approx([one.value] * 3)
        score = to_score(one, seed=7)
        assert score.low <= score.value + 1e-12 and score.value <= score.high + 1e-12
        assert (second.statistics == one.statistics).all() and second.signature == one.signature


@pytest.mark.parametrize("name", OF_MODEL)
def test_a_metric_of_the_model_scores_no_file(name: str) -> None:
    with pytest.raises(ConfigError, match=f"'{name}' measures a model, not answers") as caught:
        configured([name], {})
    assert "tunewright evaluate" in caught.value.fix


def test_a_metric_of_the_model_cannot_be_what_other_stages_score_by() -> None:
    for name in OF_MODEL:
        options = [{"name": name, **OF_MODEL[name]}, {"name": "bleu"}]
        config = EvaluateConfig.model_validate({"metrics": options})
        key = METRICS.target(name).metric_keys(config.metrics[0])[0]
        if name == "judge":
            options[0]["agreement"] = "preferences.jsonl"
        primary = EvaluateConfig.model_validate({"metrics": options, "primary": key})
        with pytest.raises(ConfigError, match="cannot score freely generated answers") as caught:
            primary_scorer(primary, ())
        assert caught.value.fix == "choose one of: bleu"
