"""The only room that knows transformers: sources, loading, templates and masks, generation, saving.

`config`, `source` and `tokens` import neither torch nor transformers, so that data checks stay light.
"""
