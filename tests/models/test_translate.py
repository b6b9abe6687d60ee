"""Local translation models: loading, languages, batches, cuts. The models are tiny and made in the process: random
ones, and one that has learned six sentences by heart."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
from tokenizers import Tokenizer  # noqa: E402

from marian_models import END, build, learn  # noqa: E402
from tunewright.core.errors import ArtifactError, ConfigError  # noqa: E402
from tunewright.models.tiny import write_tokenizer  # noqa: E402
from tunewright.models.translate import TranslationModel, spellings  # noqa: E402

CODES = ["zho_Hans", "eng_Latn"]


TEXTS = ["wire", "the card is lost", "a", "where is my refund", "hello", "no"]
LEARNED = ["电汇", "卡丢了", "一", "我的退款在哪儿", "你好", "不"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("marian")
    write_tokenizer(path)
    learn(build(), path, list(zip(TEXTS, LEARNED, strict=True))).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    path = tmp_path_factory.mktemp("untrained")
    write_tokenizer(path)
    build().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def many_languages(tmp_path_factory):
    """A model whose vocabulary holds NLLB's codes of two languages."""
    path = tmp_path_factory.mktemp("many")
    write_tokenizer(path)
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.add_special_tokens(CODES)
    tokenizer.save(str(path / "tokenizer.json"))
    build(words=261).save_pretrained(path)
    return path


def load(folder, **changes):
    return TranslationModel(folder, **{"codes": {}, "batch_size": 4, "beams": 1, "max_new_tokens": 40, **changes})


@pytest.mark.parametrize("batch_size", [1, 2, 4, 16])
@pytest.mark.parametrize("beams", [1, 3])
def test_answers_come_in_order_whatever_the_batch_size(folder, batch_size, beams):
    model = load(folder, batch_size=batch_size, beams=beams)
    assert model.translate(TEXTS, "en", "zh") == LEARNED
    assert model.translate(TEXTS[::-1], "en", "zh") == LEARNED[::-1]
    assert model.translate([], "en", "zh") == []


def test_draws_are_seeded_and_differ(untrained):
    model = load(untrained, max_new_tokens=400)
    model._model.final_logits_bias[0, END] = 3.0  # so that sampled nonsense ends
    first = model.translate(TEXTS, "en", "zh", draw=1)
    state = torch.random.get_rng_state()
    assert model.translate(TEXTS, "en", "zh", draw=1) == first
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's random numbers are not touched"
    assert any(first)
    assert model.translate(TEXTS, "en", "zh", draw=2) != first


def test_a_translation_that_does_not_end_is_empty(folder):
    needed = len(LEARNED[3].encode()) + 1
    assert load(folder, max_new_tokens=needed + 1).translate(TEXTS, "en", "zh") == LEARNED
    cut = load(folder, max_new_tokens=needed - 1).translate(TEXTS, "en", "zh")
    assert cut == [*LEARNED[:3], "", *LEARNED[4:]], "Marian forces the end token at the limit"


def test_a_text_longer_than_the_model_reads_is_empty_and_its_neighbours_are_not(folder):
    model = load(folder, batch_size=8)
    alone = model.translate(TEXTS, "en", "zh")
    assert alone == LEARNED
    assert model.translate([*TEXTS, "x" * 100], "en", "zh") == [*alone, ""]
    assert model.translate(["x" * 100], "en", "zh") == [""]


def test_the_target_language_opens_the_translation(many_languages):
    model = load(many_languages)
    seen = {}
    original = model._model.generate

    def generate(**arguments):
        output = original(**arguments)
        seen[arguments["forced_bos_token_id"]] = output[:, 1].tolist()
        return output

    model._model.generate = generate
    model.translate(["hello"], "en", "zh")
    model.translate(["你好"], "zh", "en")
    assert seen == {259: [259], 260: [260]}


def test_the_code_of_the_options_wins_and_must_exist(many_languages):
    forced = []
    model = load(many_languages, codes={"zh": "eng_Latn"})
    original = model._model.generate
    model._model.generate = lambda **arguments: forced.append(arguments["forced_bos_token_id"]) or original(**arguments)
    model.translate(["hello"], "en", "zh")
    assert forced == [260]
    with pytest.raises(ConfigError, match="no token 'klingon'"):
        load(many_languages, codes={"zh": "klingon"}).translate(["a"], "en", "zh")


def test_spellings_of_languages():
    assert spellings("zh") == ["zho_Hans", "zh_CN", "__zh__"]
    assert spellings("xx") == ["__xx__"]


def test_pickled_weights_are_refused(tmp_path):
    write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match="no weights at all"):
        load(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"only pytorch_model.bin, a pickle file"):
        load(tmp_path)


def test_code_of_the_model_is_not_run(folder, tmp_path):
    """A config that points to its own code is refused instead of imported."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "unheard", "auto_map": {"AutoConfig": "evil.C", "AutoModelForSeq2SeqLM": "evil.M"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass C: pass\nclass M: pass\n")
    with pytest.raises(ArtifactError, match="cannot be loaded"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()
