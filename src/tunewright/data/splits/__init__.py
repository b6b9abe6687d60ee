"""Dividing usable rows into train, validation and test, and what leaks between them."""
