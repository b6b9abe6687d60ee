"""From raw files to checked, split conversations: every row is kept, repaired or quarantined, with its reason.

`read` turns bytes into rows, `formats` rows into drafts, `rules` repair or reject drafts, `tokens` proves what the
model will see, `split` divides, `stage` seals. Nothing here imports torch or transformers.
"""
