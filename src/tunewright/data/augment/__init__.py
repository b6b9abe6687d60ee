"""More training rows out of those there are: augmenters by name (registry in data/config.py)."""
