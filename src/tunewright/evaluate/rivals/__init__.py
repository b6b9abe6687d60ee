"""Rivals of the tuned model: cheaper ways to the same answers, asked the same rows and scored with the same metrics."""
