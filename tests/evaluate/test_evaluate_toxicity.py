"""The metric `toxicity` and its classifiers; Perspective against a local server that speaks its protocol."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tunewright.core.errors import ArtifactError, ConfigError, MissingExtraError, ResourceError
from tunewright.core.scoring import Sample, compare, to_score, wilson
from tunewright.core.text.toxicity import builtin
from tunewright.evaluate.compare import wrong_answer_floors
from tunewright.evaluate.config import EvaluateConfig
from tunewright.evaluate.metrics.toxicity import Toxicity
from tunewright.evaluate.metrics.toxicity_options import ToxicityOptions
from tunewright.evaluate.scorer import check_keys, primary_scorer

BAD, GOOD = "Shut up, you stupid idiot.", "Your refund is on its way."


def samples(*answers: str, **metadata: str) -> list[Sample]:
    return [
        Sample(id=str(i), prompt="q", reference="r", prediction=text, metadata=metadata)
        for i, text in enumerate(answers)
    ]


def metric(**options: Any) -> Toxicity:
    return Toxicity(ToxicityOptions.model_validate({"name": "toxicity", **options}))


def test_the_rate_is_the_share_of_toxic_answers() -> None:
    (measured,) = metric().measure(samples(GOOD, BAD, "好的，已为您办理。", "你这个傻逼", " "))
    assert measured.metric == "toxicity.rate"
    assert measured.statistics[:, 0].tolist() == [0, 1, 0, 1, 0]
    assert measured.yes_no and not measured.higher_is_better
    score = to_score(measured, seed=7)
    assert score.value == pytest.approx(0.4)
    assert (score.low, score.high) == pytest.approx(wilson(2, 5))


def test_the_signature_names_the_classifier_its_figures_the_threshold_and_empty_answers() -> None:
    (measured,) = metric(threshold=0.7).measure(samples(GOOD, ""))
    assert measured.signature.startswith(f"classifier:builtin-{builtin().version}|auc_zh:0.87")
    assert "|anti_bias_called_toxic:0.6" in measured.signature
    assert measured.signature.endswith("|threshold:0.7|empty:1")


def test_a_probability_equal_to_the_threshold_is_toxic() -> None:
    p = builtin().probability(BAD)
    assert metric(threshold=p).measure(samples(BAD))[0].value == 1
    assert metric(threshold=min(1.0, p + 1e-9)).measure(samples(BAD))[0].value == (p == 1)


def test_where_keeps_rows_and_none_gives_nothing() -> None:
    chosen = metric(where={"metadata.task": "answer"})
    assert chosen.measure(samples(BAD, task="answer"))[0].value == 1
    assert chosen.measure(samples(BAD, task="intent")) == []


def test_two_systems_are_compared_by_mcnemar() -> None:
    base, tuned = metric().measure(samples(*[BAD] * 8))[0], metric().measure(samples(*[GOOD] * 8))[0]
    found = compare(tuned, base, seed=7)
    assert (found.test, found.difference) == ("McNemar", -1)
    assert found.p == pytest.approx(2 / 2**8)


def test_another_rows_reference_changes_nothing() -> None:
    assert wrong_answer_floors(metric(), samples(BAD, GOOD, GOOD, GOOD), seed=7) == {"toxicity.rate": 0.25}


def test_it_can_be_chosen_in_a_project_file_and_be_the_primary_metric() -> None:
    config = EvaluateConfig.model_validate({"metrics": [{"name": "toxicity"}], "primary": "toxicity.rate"})
    check_keys(config)
    assert primary_scorer(config, [])(samples(BAD, GOOD)).value == 0.5


class Service:
    """Answers as Perspective does: `script` gives (status, body) of each request; the last one repeats."""

    def __init__(self, *script: tuple[int, Any]) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, reply = script[min(len(service.asked), len(script) - 1)]
                service.asked.append((self.path, body))
                text = json.dumps(reply(body["comment"]["text"]) if callable(reply) else reply).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *words: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def metric(self, **options: Any) -> Toxicity:
        address = f"http://127.0.0.1:{self.server.server_port}"
        chosen = {"name": "perspective", "api_key": "k3y/+", "base_url": address, "requests_per_second": 1000}
        return metric(classifier=chosen | options)


Start = Callable[..., Service]


@pytest.fixture
def serve() -> Iterator[Start]:
    services: list[Service] = []

    def start(*script: tuple[int, Any]) -> Service:
        services.append(Service(*script))
        return services[-1]

    yield start
    for service in services:
        service.server.shutdown()
        service.server.server_close()


def value(score: float) -> dict[str, Any]:
    return {"attributeScores": {"TOXICITY": {"summaryScore": {"value": score, "type": "PROBABILITY"}}}}


def test_perspective_is_asked_once_an_answer_with_the_key_and_not_to_store(serve: Start) -> None:
    service = serve((200, lambda text: value(0.9 if text == BAD else 0.1)))
    chosen = service.metric()
    for _ in range(2):
        (measured,) = chosen.measure(samples(BAD, GOOD, BAD, ""))
        assert measured.statistics[:, 0].tolist() == [1, 0, 1, 0]
    assert measured.signature == "classifier:perspective TOXICITY|threshold:0.5|empty:1"
    assert [body["comment"]["text"] for _, body in service.asked] == [BAD, GOOD]
    path, body = service.asked[0]
    assert path == "/v1alpha1/comments:analyze?key=k3y%2F%2B"
    assert body["requestedAttributes"] == {"TOXICITY": {}} and body["doNotStore"] is True


def test_what_it_will_measure_is_known_without_asking(serve: Start) -> None:
    service = serve((200, value(0.9)))
    chosen = service.metric()
    (foreseen,) = chosen.foresee(samples(BAD, GOOD))
    assert service.asked == []
    (measured,) = chosen.measure(samples(BAD, GOOD))
    kinds = [(m.metric, len(m.statistics), m.yes_no, m.higher_is_better) for m in (foreseen, measured)]
    assert kinds == [("toxicity.rate", 2, True, False)] * 2
    assert chosen.foresee([]) == []


def test_perspective_gets_a_long_answer_in_parts_and_the_worst_counts(serve: Start) -> None:
    service = serve((200, lambda text: value(0.8 if "坏" in text else 0.1)))
    assert service.metric().measure(samples("好" * 1500 + "坏"))[0].value == 1
    parts = [body["comment"]["text"] for _, body in service.asked]
    assert "".join(parts) == "好" * 1500 + "坏"
    assert [len(part.encode()) for part in parts] == [3000, 1503]


def test_perspective_is_asked_again_after_429(serve: Start) -> None:
    service = serve((429, {"error": {"message": "quota"}}), (200, value(0.7)))
    assert service.metric().measure(samples("x"))[0].value == 1
    assert len(service.asked) == 2


def test_perspective_refuses_and_the_key_is_not_shown(serve: Start) -> None:
    service = serve((400, {"error": {"message": "API key k3y/+ not valid"}}))
    with pytest.raises(ConfigError, match=r"answers 400: API key \*\*\* not valid") as caught:
        service.metric().measure(samples("x"))
    assert "k3y" not in str(caught.value) and "builtin" in caught.value.fix
    assert len(service.asked) == 1


@pytest.mark.parametrize("reply", [{}, {"attributeScores": {}}, [], value(0)["attributeScores"]])
def test_an_answer_without_a_score_is_named(serve: Start, reply: Any) -> None:
    with pytest.raises(ResourceError, match="answers without a score"):
        serve((200, reply)).metric().measure(samples("x"))


def test_a_service_that_keeps_failing_or_is_not_there_is_named(serve: Start) -> None:
    with pytest.raises(ResourceError, match=r"answers 503: down \(1 tries\)"):
        serve((503, {"error": {"message": "down"}})).metric(retries=0).measure(samples("x"))
    gone = serve((200, {}))
    gone.server.shutdown()
    gone.server.server_close()
    with pytest.raises(ResourceError, match=r"cannot be asked: .*\(1 tries\)"):
        gone.metric(retries=0).measure(samples("x"))


def test_perspective_keeps_its_quota(serve: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("tunewright.evaluate.metrics.toxicity_backends.time.sleep", waits.append)
    serve((200, value(0.1))).metric(requests_per_second=0.5).measure(samples("a", "b", "c"))
    assert waits[0] == 0
    assert waits[1:] == pytest.approx([2, 2], abs=0.5)


def test_the_key_comes_from_a_named_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {"name": "perspective", "api_key": "${PERSPECTIVE_KEY}"}
    monkeypatch.delenv("PERSPECTIVE_KEY", raising=False)
    with pytest.raises(ValidationError, match="PERSPECTIVE_KEY is not set"):
        ToxicityOptions.model_validate({"classifier": chosen})
    monkeypatch.setenv("PERSPECTIVE_KEY", "s3cret")
    options = ToxicityOptions.model_validate({"classifier": chosen})
    assert options.classifier.api_key.get_secret_value() == "s3cret"  # type: ignore[attr-defined]
    assert "s3cret" not in repr(options)
    with pytest.raises(ValidationError, match="api_key"):
        ToxicityOptions.model_validate({"classifier": {"name": "perspective"}})
    with pytest.raises(ValidationError, match="write http"):
        ToxicityOptions.model_validate({"classifier": chosen | {"base_url": "ftp://x"}})


DETOXIFY = {"name": "detoxify", "weights": "absent.ckpt", "base": "absent"}


@pytest.mark.skipif(importlib.util.find_spec("detoxify") is not None, reason="detoxify is installed")
def test_detoxify_is_refused_with_the_pip_line_where_it_is_absent() -> None:
    with pytest.raises(MissingExtraError) as caught:
        metric(classifier=DETOXIFY)
    assert caught.value.fix == "pip install detoxify"


def _tiny_detoxify(folder: Path) -> dict[str, str]:
    """A checkpoint as Detoxify writes them, of a random BERT that takes `bad` for toxic."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad"]))
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = BertConfig(vocab_size=7, **sizes)
    config.save_pretrained(folder)
    torch.manual_seed(0)
    config.num_labels = 3
    model = BertForSequenceClassification(config)
    arch = {"model_type": "bert-base-uncased", "model_name": "BertForSequenceClassification",
            "tokenizer_name": "BertTokenizer", "num_classes": 3}  # fmt: skip
    settings = {"dataset": {"args": {"classes": ["insult", "toxic", "threat"]}}, "arch": {"args": arch}}
    torch.save({"config": settings, "state_dict": model.state_dict()}, folder / "w.ckpt")
    return {"name": "detoxify", "weights": str(folder / "w.ckpt"), "base": str(folder)}


def test_detoxify_with_local_weights(tmp_path: Path) -> None:
    pytest.importorskip("detoxify", reason="detoxify is not installed")
    import torch
    from transformers import BertForSequenceClassification, BertTokenizer

    chosen = _tiny_detoxify(tmp_path)
    state = torch.load(chosen["weights"])["state_dict"]
    model = BertForSequenceClassification.from_pretrained(None, config=str(tmp_path), state_dict=state, num_labels=3)
    inputs = BertTokenizer.from_pretrained(tmp_path)(["good", "bad bad"], return_tensors="pt", padding=True)
    expected = torch.sigmoid(model.eval()(**inputs)[0])[:, 1].tolist()
    asked = metric(classifier=chosen | {"batch_size": 1})
    assert asked._classifier.probabilities(["good", "bad bad"]) == pytest.approx(expected, abs=1e-6)
    assert asked._classifier.signature.startswith("classifier:detoxify w.ckpt ")
    (tmp_path / "w.ckpt").write_bytes(b"no weights")
    with pytest.raises(ArtifactError, match="no Detoxify weights"):
        metric(classifier=chosen).measure(samples("good"))
    with pytest.raises(ArtifactError, match="no such file"):
        metric(classifier=DETOXIFY)
