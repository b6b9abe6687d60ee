"""The versions the whole test suite ran with (constraints.txt in the source tree pins the same ones).

The declared ranges in the package's metadata stay open; outside this set things may work, but nobody has looked.
"""

from __future__ import annotations

TESTED = {
    "accelerate": "1.15.0",
    "compressed-tensors": "0.19.0",
    "fastapi": "0.165.0",
    "gguf": "0.19.0",
    "llmcompressor": "0.14.0.1",
    "peft": "0.21.2",
    "pydantic": "2.14.4",
    "sacrebleu": "2.6.0",
    "safetensors": "0.8.0",
    "tokenizers": "0.23.3",
    "torch": "2.13.0",
    "transformers": "5.17.0",
    "xllamacpp": "2026.10.11549",
}
PYTHON = (3, 11)
"""The suite runs on this one; newer ones are inside the declared range."""
