"""Labels by several annotators: what they agree on."""
