"""Engines behind the HTTP layer, as plug-ins: what generates, where, and how it is kept alive."""
