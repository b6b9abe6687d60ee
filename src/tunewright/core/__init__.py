"""Shared foundations: standard library, pydantic and yaml only. Nothing here knows a model or a stage."""
