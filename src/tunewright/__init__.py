"""tunewright: from raw conversations to a served chat model that is proven better."""

__version__ = "0.1.0"
