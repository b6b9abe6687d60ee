"""Guards of the semantic cache: what must be the same in two questions before one may get the other's answer.

Each reads English and Chinese. A guard that is unsure refuses: a miss costs a generation, a wrong hit a wrong answer.
"""
