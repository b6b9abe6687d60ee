"""Back-translation with the library CTranslate2 itself: a Marian made here, converted by the library's own converter.

What is proven: our way of splitting, ending, limiting and joining gives what transformers' greedy search gives with the
same weights, also for texts that the model does not know.
"""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")
ctranslate2 = pytest.importorskip("ctranslate2")

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors  # noqa: E402

from marian_models import build, learn  # noqa: E402
from tunewright.core.chat import Conversation, Message  # noqa: E402
from tunewright.core.errors import ArtifactError  # noqa: E402
from tunewright.data.augment.engine import augment  # noqa: E402
from tunewright.data.augment.options import BackTranslationOptions, CTranslate2Options, HuggingFaceOptions  # noqa: E402
from tunewright.data.augment.translators import CTranslate2Translator, HuggingFaceTranslator  # noqa: E402

PAIRS = {"zh-en": {"卡丢了怎么办": "my card is lost", "还款37.5元": "pay back 37.5"}}
PAIRS["en-zh"] = {"my card is lost": "银行卡丢了怎么办", "pay back 37.5": "还款375元"}
UNKNOWN = ["卡丢", "完全没见过的句子，3天", "pay", "x" * 40, "  two  blanks "]
END, PAD = 256, 258
LIMIT = 48


def write_tokenizer(folder):
    """Bytes, with the special tokens of Marian's vocabularies, pad last; </s> ends every text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["</s>", "<unk>", "<pad>"]
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", END)])
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False, **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two directions as transformers has them (`zh-en`) and as CTranslate2 has them (`zh-en-ct2`)."""
    from ctranslate2.converters import TransformersConverter

    root = tmp_path_factory.mktemp("project")
    for name, pairs in PAIRS.items():
        (root / name).mkdir()
        write_tokenizer(root / name)
        model = learn(build(end=END, pad=PAD), root / name, list(pairs.items()), end=END, pad=PAD)
        model.generation_config.bad_words_ids = [[PAD]]  # as published Marian models have it; CTranslate2 drops pad
        model.save_pretrained(root / name)
        TransformersConverter(str(root / name), copy_files=["tokenizer.json"]).convert(str(root / f"{name}-ct2"))
    return root


def translators(root):
    theirs = HuggingFaceOptions(models={name: name for name in PAIRS}, max_new_tokens=LIMIT)
    ours = CTranslate2Options(models={name: f"{name}-ct2" for name in PAIRS}, max_new_tokens=LIMIT, device="cpu")
    return HuggingFaceTranslator(theirs, root), CTranslate2Translator(ours, root)


@pytest.mark.parametrize("direction", PAIRS)
def test_translations_are_those_of_transformers_with_the_same_weights(project, direction):
    theirs, ours = translators(project)
    texts = [*PAIRS[direction], *UNKNOWN]
    found = ours.translate(texts, *direction.split("-"))
    assert found[:2] == list(PAIRS[direction].values())
    assert found == theirs.translate(texts, *direction.split("-"))
    assert any(found[2:]), "an unknown text is translated to something too"


def test_a_translation_that_does_not_end_is_empty(project):
    ours = CTranslate2Translator(CTranslate2Options(models={"any": "zh-en-ct2"}, max_new_tokens=5), project)
    assert ours.translate(["卡丢了怎么办"], "zh", "en") == [""]


def test_draws_are_seeded_and_differ(project):
    _, ours = translators(project)
    texts = ["完全没见过的句子", "卡丢了怎么办", "x" * 20]
    drawn = [ours.translate(texts, "zh", "en", draw=draw) for draw in (1, 1, 2, 3)]
    assert drawn[0] == drawn[1]
    assert len({tuple(one) for one in drawn}) > 1


def test_a_row_goes_there_and_back(project):
    backend = CTranslate2Options(models={name: f"{name}-ct2" for name in PAIRS}, max_new_tokens=LIMIT)
    rows = [
        Conversation(id=f"r{n}", messages=(Message(role="user", content=text), Message(role="assistant", content="x")))
        for n, text in enumerate(PAIRS["zh-en"])
    ]
    good, number = augment(rows, [BackTranslationOptions(backend=backend)], seed=7, root=project)
    assert [turn.content for turn in good.conversation.messages] == ["银行卡丢了怎么办", "x"]
    assert (number.rule, number.reason) == ("AMOUNT", "turn 1: amount 37.5元 became 375元")


def test_a_folder_that_is_no_model_is_an_error_of_ours(project, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.bin").write_bytes(b"no model")
    write_tokenizer(tmp_path / "m")
    with pytest.raises(ArtifactError, match="CTranslate2 cannot open the model"):
        CTranslate2Translator(CTranslate2Options(models={"any": "m"}), tmp_path).translate(["a"], "zh", "en")
