"""The augmenters by name: `{name: synonyms, ...options}`."""

from __future__ import annotations

from tunewright.core.registry import Entry, Registry

_HERE = "tunewright.data.augment"
AUGMENTERS = Registry(
    "augmenters",
    {
        "synonyms": Entry(f"{_HERE}.synonyms:Synonyms", f"{_HERE}.options:SynonymsOptions"),
        "back_translation": Entry(
            f"{_HERE}.back_translation:BackTranslation", f"{_HERE}.options:BackTranslationOptions"
        ),
        "paraphrase": Entry(f"{_HERE}.paraphrase:Paraphrase", f"{_HERE}.options:ParaphraseOptions"),
    },
)
