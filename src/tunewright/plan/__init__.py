"""Whether a training fits, what it takes and what else would do: stands above the stages, as advice does."""
