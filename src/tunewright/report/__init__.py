"""One self-contained HTML page a run: what was done, what came out, and how sure that is."""
