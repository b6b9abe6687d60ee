"""Smaller variants of the tuned model, each loaded back and measured against 16 bits."""
