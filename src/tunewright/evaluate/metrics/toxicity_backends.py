"""The classifiers that the metric `toxicity` can ask."""

from __future__ import annotations

import hashlib
import http.client
import json
import time
from collections.abc import Iterator, Sequence
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from tunewright.core.errors import ArtifactError, ConfigError, MissingExtraError, ResourceError
from tunewright.core.scoring import Floats
from tunewright.core.text.toxicity import builtin
from tunewright.evaluate.metrics.toxicity_options import BuiltinOptions, DetoxifyOptions, PerspectiveOptions

_RETRIED = frozenset({408, 429, 500, 502, 503, 504})
_FIRST_WAIT_S = 0.5
_LONGEST_WAIT_S = 30.0
_LARGEST_BYTES = 3000
"""Of one comment, the limit that Perspective's API reference names."""
_WHERE = "evaluate.metrics.toxicity.classifier"


class Builtin:
    """The classifier of the package."""

    def __init__(self, options: BuiltinOptions) -> None:
        self._classifier = builtin()

    @property
    def signature(self) -> str:
        """Its version, and what it measured on public test sets when it was made."""
        figures = "|".join(f"{name}:{value:.4g}" for name, value in self._classifier.figures.items())
        return f"classifier:builtin-{self._classifier.version}|{figures}"

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """[texts] by the built-in classifier."""
        return self._classifier.probabilities(texts)


class LocalDetoxify:
    """Detoxify (Hanu & Unitary 2020) with weights that lie on this machine."""

    def __init__(self, options: DetoxifyOptions) -> None:
        """Raises MissingExtraError without the library, ArtifactError where the files are not there."""
        if find_spec("detoxify") is None:
            raise MissingExtraError(
                "the classifier detoxify needs the library 'detoxify', which is not installed",
                where=_WHERE,
                fix="pip install detoxify",
            )
        for path in (options.weights, str(Path(options.base) / "config.json")):
            if not Path(path).is_file():
                raise ArtifactError("there is no such file", where=path, fix=f"correct the path in {_WHERE}")
        self._options = options

    @cached_property
    def signature(self) -> str:
        """The weights' name and the beginning of their SHA-256."""
        with Path(self._options.weights).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return f"classifier:detoxify {Path(self._options.weights).name} {digest[:8]}"

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """[texts] the class `toxicity` (`toxic` in the first models)."""
        import torch

        model, tokenizer, column = self._loaded
        found = []
        size = self._options.batch_size
        with torch.inference_mode():
            for start in range(0, len(texts), size):
                part = list(texts[start : start + size])
                inputs = tokenizer(part, return_tensors="pt", truncation=True, padding=True, max_length=512)
                found.append(torch.sigmoid(model(**inputs)[0])[:, column].double().numpy())
        return np.concatenate(found)

    @cached_property
    def _loaded(self) -> tuple[Any, Any, int]:
        """(model, tokenizer, column). The library's own loader asks the network for the base model's config; its
        builder does not when it is told the folder."""
        import torch

        build = import_module("detoxify.detoxify").get_model_and_tokenizer
        try:
            checkpoint = torch.load(self._options.weights, map_location="cpu", weights_only=True)
            classes = list(checkpoint["config"]["dataset"]["args"]["classes"])
            settings = checkpoint["config"]["arch"]["args"]
            column = next(index for index, name in enumerate(classes) if name in ("toxicity", "toxic"))
            model, tokenizer = build(
                self._options.base,
                settings["model_name"],
                settings["tokenizer_name"],
                settings["num_classes"],
                checkpoint["state_dict"],
            )
        except (KeyError, TypeError, StopIteration, RuntimeError, OSError, UnpicklingError) as error:
            raise ArtifactError(
                f"these are no Detoxify weights that fit the base model ({type(error).__name__})",
                where=self._options.weights,
                fix=f"name a Detoxify checkpoint and its base model in {_WHERE}",
            ) from error
        return model.eval(), tokenizer, column


class Perspective:
    """Google's Perspective API, one answer at a time. No proxy of the environment, no redirects."""

    def __init__(self, options: PerspectiveOptions) -> None:
        self._options = options
        self._key = options.api_key.get_secret_value()
        self._address = urlsplit(options.base_url)
        self._next = 0.0

    signature = "classifier:perspective TOXICITY"

    def probabilities(self, texts: Sequence[str]) -> Floats:
        """[texts] the summary score; a text over 3000 bytes goes in parts and is as toxic as its worst.

        Raises ConfigError when the service refuses, ResourceError when it cannot be reached or keeps failing.
        """
        return np.array([max(self._ask(part) for part in _parts(text)) for text in texts])

    def _ask(self, text: str) -> float:
        body = {"comment": {"text": text}, "requestedAttributes": {"TOXICITY": {}}, "doNotStore": True}
        reply = self._call(json.dumps(body).encode())
        try:
            return float(json.loads(reply)["attributeScores"]["TOXICITY"]["summaryScore"]["value"])
        except (ValueError, KeyError, TypeError):
            raise ResourceError(
                f"{self._options.base_url} answers without a score: {self._clean(reply)}",
                where=_WHERE,
                fix="check base_url, or use the classifier builtin",
            ) from None

    def _call(self, body: bytes) -> str:
        problem = ""
        for attempt in range(self._options.retries + 1):
            self._wait(min(_FIRST_WAIT_S * 2 ** (attempt - 1), _LONGEST_WAIT_S) if attempt else 0.0)
            try:
                status, text = self._exchange(body)
            except (OSError, http.client.HTTPException) as error:
                problem = f"cannot be asked: {self._clean(str(error) or type(error).__name__)}"
                continue
            if status == http.client.OK:
                return text
            problem = f"answers {status}: {self._clean(_message(text))}"
            if status not in _RETRIED:
                raise ConfigError(
                    f"{self._options.base_url} {problem}",
                    where=_WHERE,
                    fix="check api_key and that the API is enabled for it, or use the classifier builtin",
                )
        raise ResourceError(
            f"{self._options.base_url} {problem} ({self._options.retries + 1} tries)",
            where=_WHERE,
            fix="lower requests_per_second or raise retries; the service ends after 2026",
        )

    def _wait(self, more: float) -> None:
        """Until the quota allows a request, and `more` seconds after a failed one."""
        time.sleep(max(0.0, self._next - time.monotonic(), more))
        self._next = time.monotonic() + 1 / self._options.requests_per_second

    def _exchange(self, body: bytes) -> tuple[int, str]:
        host, port = self._address.hostname, self._address.port
        assert host is not None
        kind = http.client.HTTPSConnection if self._address.scheme == "https" else http.client.HTTPConnection
        connection = kind(host, port, timeout=self._options.timeout_s)
        path = f"{self._address.path}/v1alpha1/comments:analyze?key={quote(self._key, safe='')}"
        try:
            connection.request("POST", path, body=body, headers={"Content-Type": "application/json"})
            reply = connection.getresponse()
            return reply.status, reply.read(1 << 20).decode("utf-8", "replace")
        finally:
            connection.close()

    def _clean(self, text: str) -> str:
        """One short line without the key."""
        return " ".join(text.replace(self._key, "***").split())[:200] or "nothing"


def _message(text: str) -> str:
    """The sentence in a Google error body, else the body."""
    try:
        return str(json.loads(text)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return text


def _parts(text: str) -> Iterator[str]:
    """`text` in parts of at most 3000 bytes as UTF-8."""
    part, size = "", 0
    for letter in text:
        length = len(letter.encode("utf-8", "replace"))
        if size + length > _LARGEST_BYTES:
            yield part
            part, size = "", 0
        part, size = part + letter, size + length
    yield part
