"""Advice on training settings: facts of data, model, machine and runs -> rules with sources -> a measured sweep."""
