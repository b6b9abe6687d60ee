"""Rules by name (registry in data/config.py): each takes a draft and gives back the repaired one, or a rejection."""
