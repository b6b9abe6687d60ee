"""Evaluation: base against tuned on the test split, with intervals, paired tests and gates."""
