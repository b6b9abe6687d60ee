"""Where a row went: sources, data artifacts, caches, models, reports; and taking it out again."""
