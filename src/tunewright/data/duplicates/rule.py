"""The rule near_duplicate: the only one that looks at all rows together."""

from __future__ import annotations

from tunewright.data.duplicates.near import NearDuplicates, find_near
from tunewright.data.duplicates.options import NearDuplicateOptions
from tunewright.data.duplicates.search import Texts


class NearDuplicate:
    """The rule `near_duplicate`."""

    def __init__(self, options: NearDuplicateOptions) -> None:
        self.options = options

    def clusters(self, texts: Texts, *, seed: int) -> NearDuplicates:
        """The clusters among `texts`, all usable rows of the shared pool in reading order."""
        return find_near(texts, threshold=self.options.threshold, seed=seed, use_rensa=self.options.rensa)
