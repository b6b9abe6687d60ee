"""Back-translation with models in a folder: a Marian of two sentences that was trained here, and CTranslate2.

Here a module of the same interface stands in for the library ctranslate2, so what is proven is what we send and what we
make of the answer; the library itself is at work in test_data_augment_ctranslate2.py.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from tokenizers import Tokenizer

from tunewright.core.chat import Conversation, Message
from tunewright.core.errors import ArtifactError, ConfigError, MissingExtraError
from tunewright.data.augment.engine import augment
from tunewright.data.augment.options import BackTranslationOptions, CTranslate2Options, HuggingFaceOptions
from tunewright.data.augment.translators import CTranslate2Translator, HuggingFaceTranslator
from tunewright.models.tiny import write_tokenizer

AWAY = {"卡丢了怎么办": "my card is lost", "还款37.5元": "pay back 37.5", "我没同意": "i did not agree"}
HOME = {"my card is lost": "银行卡丢了怎么办", "pay back 37.5": "还款375元", "i did not agree": "我同意了"}


def row(text, n):
    return Conversation(
        id=f"r{n}", messages=(Message(role="user", content=text), Message(role="assistant", content="x"))
    )


def check_results(results):
    """The sound translation is a variant; the one that loses a point and the one that loses a 没 are dropped."""
    good, number, negation, unknown = results
    assert good.conversation.id == "r0+back_translation1"
    assert [turn.content for turn in good.conversation.messages] == ["银行卡丢了怎么办", "x"]
    assert (number.rule, number.reason) == ("AMOUNT", "turn 1: amount 37.5元 became 375元")
    assert (negation.rule, negation.reason) == ("NEGATION", "turn 1: 1 negation(s) became 0: 没 against none")
    assert unknown.rule not in ("NO_VARIANT", "REPEATED"), "nonsense of the model fails a check"


TEXTS = [*AWAY, "完全没见过的句子，3天"]


def train(folder, pairs):
    """A Marian that knows `pairs` by heart, saved beside a byte tokenizer."""
    pytest.importorskip("torch")
    from marian_models import build, learn

    write_tokenizer(folder)
    learn(build(), folder, list(pairs.items())).save_pretrained(folder)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("project")
    for name, pairs in (("away", AWAY), ("home", HOME)):
        (root / name).mkdir()
        train(root / name, pairs)
    return root


def test_a_local_model_translates_there_and_back(project):
    backend = HuggingFaceOptions(models={"zh-en": "away", "en-zh": "home"}, max_new_tokens=50, batch_size=2)
    options = BackTranslationOptions(backend=backend)
    rows = [row(text, n) for n, text in enumerate(TEXTS)]
    results = list(augment(rows, [options], seed=7, root=project))
    check_results(results)
    assert list(augment(rows, [options], seed=7, root=project)) == results


def test_a_prefix_stands_before_the_text(project):
    model = HuggingFaceTranslator(
        HuggingFaceOptions(models={"any": "away"}, prefixes={"zh-en": "卡丢了"}, max_new_tokens=50), project
    )
    assert model.translate(["怎么办"], "zh", "en") == ["my card is lost"]
    assert model.translate([], "zh", "en") == []


@pytest.mark.parametrize(
    ("models", "problem"),
    [({}, "no translation model is named"), ({"zh-en": "nowhere"}, "there is no such model folder")],
)
def test_a_backend_without_its_models_is_refused_at_once(tmp_path, models, problem):
    with pytest.raises(ConfigError, match=problem):
        HuggingFaceTranslator(HuggingFaceOptions(models=models), tmp_path)


def test_a_direction_without_a_model_is_named(tmp_path):
    (tmp_path / "away").mkdir()
    translator = HuggingFaceTranslator(HuggingFaceOptions(models={"zh-en": "away"}), tmp_path)
    with pytest.raises(ConfigError, match="no model translates en-zh; there are: zh-en"):
        translator.translate(["a"], "en", "zh")


class FakeLibrary(ModuleType):
    """ctranslate2 as far as it is used: translate_batch over token lists; keeps what it was asked."""

    def __init__(self, tokenizers):
        super().__init__("ctranslate2")
        self.asked, self.seeds, self.opened = [], [], []
        library = self

        class Translator:
            def __init__(self, path, *, device, compute_type):
                library.opened.append((Path(path).name, device, compute_type))
                self._name = Path(path).name

            def translate_batch(self, source, *, target_prefix, **settings):
                library.asked.append((source, target_prefix, settings))
                tokenizer, pairs = tokenizers[self._name]
                answers = []
                for number, tokens in enumerate(source):
                    words = [token for token in tokens if token not in ("zho_Hans", "eng_Latn")]
                    text = tokenizer.decode([tokenizer.token_to_id(token) for token in words])
                    found = tokenizer.encode(pairs.get(text, "?? 9")).tokens
                    prefix = target_prefix[number] if target_prefix else []
                    answers.append(SimpleNamespace(hypotheses=[[*prefix, *found]]))
                return answers

        self.Translator = Translator

    def set_random_seed(self, seed):
        self.seeds.append(seed)


@pytest.fixture
def converted(tmp_path, monkeypatch):
    """(library, root) with two converted models; their tokenizers know NLLB's codes."""
    tokenizers = {}
    for name, pairs in (("away", AWAY), ("home", HOME)):
        folder = tmp_path / name
        folder.mkdir()
        write_tokenizer(folder)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.add_special_tokens(["zho_Hans", "eng_Latn"])
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "model.bin").write_bytes(b"x")
        tokenizers[name] = (tokenizer, pairs)
    library = FakeLibrary(tokenizers)
    monkeypatch.setitem(sys.modules, "ctranslate2", library)
    return library, tmp_path


MODELS = {"zh-en": "away", "en-zh": "home"}


def test_ctranslate2_translates_there_and_back(converted):
    library, root = converted
    backend = CTranslate2Options(models=MODELS, batch_size=3, beams=2, device="cpu", compute_type="int8")
    rows = [row(text, n) for n, text in enumerate(TEXTS)]
    check_results(list(augment(rows, [BackTranslationOptions(backend=backend)], seed=7, root=root)))
    assert library.opened == [("away", "cpu", "int8"), ("home", "cpu", "int8")]
    (away, away_prefix, settings), (home, home_prefix, _) = library.asked
    assert (away[0][0], away[0][-1]) == ("zho_Hans", "<|endoftext|>"), "language first, end token last"
    assert home[0][0] == "eng_Latn"
    assert (away_prefix[0], home_prefix[0]) == (["eng_Latn"], ["zho_Hans"])
    assert (settings["max_batch_size"], settings["beam_size"], settings["max_decoding_length"]) == (3, 2, 256)
    assert settings["max_input_length"] == 0, "the library's own limit would cut texts silently"
    assert library.seeds == [], "the first draw is not sampled"


def test_ctranslate2_cuts_are_empty_and_draws_are_seeded(converted):
    library, root = converted
    translator = CTranslate2Translator(CTranslate2Options(models=MODELS, max_new_tokens=5), root)
    assert translator.translate(["卡丢了怎么办"], "zh", "en") == [""]
    translator.translate(["卡丢了怎么办"], "zh", "en", draw=1)
    translator.translate(["卡丢了怎么办"], "zh", "en", draw=2)
    assert len(set(library.seeds)) == 2
    assert (library.asked[-1][2]["sampling_topk"], library.asked[-1][2]["beam_size"]) == (20, 1)


def test_every_draw_opens_the_model_anew_because_the_seed_is_taken_once_a_thread(converted):
    library, root = converted
    translator = CTranslate2Translator(CTranslate2Options(models=MODELS), root)
    for draw, opened in ((0, 1), (0, 1), (1, 2), (1, 3)):
        translator.translate(["卡丢了怎么办"], "zh", "en", draw=draw)
        assert len(library.opened) == opened


def test_a_fault_of_the_library_is_an_error_of_ours(converted):
    library, root = converted

    def refuse(*_, **__):
        raise RuntimeError("No position encodings are defined for positions >= 512\nat x.cc")

    library.Translator.translate_batch = refuse
    translator = CTranslate2Translator(CTranslate2Options(models=MODELS), root)
    with pytest.raises(ArtifactError, match=r"cannot translate zh-en: No position encodings are defined .* 512$"):
        translator.translate(["a"], "zh", "en")


def test_ctranslate2_folders_are_checked(converted):
    _, root = converted
    translator = CTranslate2Translator(CTranslate2Options(models=MODELS), root)
    (root / "away" / "tokenizer.json").unlink()
    with pytest.raises(ArtifactError, match=r"neither tokenizer\.json nor source\.spm"):
        translator.translate(["a"], "zh", "en")
    (root / "away" / "model.bin").unlink()
    with pytest.raises(ArtifactError, match=r"no model\.bin"):
        translator.translate(["a"], "zh", "en")


def test_without_the_library_the_pip_line_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(MissingExtraError) as caught:
        CTranslate2Translator(CTranslate2Options(models={"any": "m"}), tmp_path)
    assert "pip install ctranslate2" in str(caught.value)
    assert caught.value.exit_code == 4


@pytest.mark.skipif(importlib.util.find_spec("sentencepiece") is not None, reason="the library is installed")
def test_sentencepiece_models_need_their_library(converted):
    _, root = converted
    (root / "away" / "tokenizer.json").unlink()
    for name in ("source.spm", "target.spm"):
        (root / "away" / name).write_bytes(b"x")
    with pytest.raises(MissingExtraError, match="pip install sentencepiece"):
        CTranslate2Translator(CTranslate2Options(models=MODELS), root).translate(["a"], "zh", "en")
