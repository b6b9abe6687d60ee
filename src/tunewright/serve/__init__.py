"""The OpenAI-compatible server: HTTP layer over an engine, the choice of what is served, a terminal chat."""
