"""Metrics, one file each, chosen by name."""
