"""Who sees what in which order: pairs of systems, sides, blocks and repeats. Pure functions of the seed.

- Every pair of systems is shown equally often (one more or less), and for a rater every system stands on the left as
  often as on the right (one more or less).
- The second of two raters sees every pair with the sides swapped, so an item is seen both ways.
- Items come in blocks that are the same for all raters, in an order of their own inside a block: raters who stop
  early have still rated the same items.
- Repeats come at least GAP tasks after the first showing, with the sides swapped.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

BLOCK = 10
GAP = 5
LONGEST_GAP = 15


@dataclass(frozen=True, slots=True)
class Task:
    """One showing. item: its number from 0; repeat_of: the position of the first showing in the rater's order."""

    item: int
    left: str
    right: str
    repeat_of: int | None = None


@dataclass(frozen=True, slots=True)
class Design:
    """What the order follows from. repeats: share of tasks shown twice."""

    systems: tuple[str, ...]
    items: int
    seed: int
    repeats: float
    pairs_per_item: int = 1

    def tasks(self, rater: int) -> list[Task]:
        """The tasks of rater number `rater` (from 0), in order."""
        shown = _with_sides(_pairs(self), self.systems, _random(self, "sides", rater // 2), swap=rater % 2 == 1)
        ordered = _in_blocks(shown, self, rater)
        return _with_repeats(ordered, self.repeats, _random(self, "repeats", rater))


def _random(design: Design, purpose: str, number: int = 0) -> random.Random:
    return random.Random(f"{design.seed}/{purpose}/{number}")  # noqa: S311 (no secret)


def _pairs(design: Design) -> list[Task]:
    """Items with their pairs: the pairs take turns over the shuffled items."""
    generator = _random(design, "pairs")
    pairs = list(itertools.combinations(design.systems, 2))
    generator.shuffle(pairs)
    items = generator.sample(range(design.items), design.items)
    each = min(design.pairs_per_item, len(pairs))
    turns = itertools.cycle(pairs)
    return [Task(item, *next(turns)) for item in items for _ in range(each)]


def _with_sides(tasks: Sequence[Task], systems: Sequence[str], generator: random.Random, *, swap: bool) -> list[Task]:
    """Half of the showings of every pair each way; the odd ones so that every system's sides balance."""
    counts = Counter((task.left, task.right) for task in tasks)
    odd = [pair for pair, count in counts.items() if count % 2]
    led = dict(zip(odd, oriented(odd, systems), strict=True))
    ways: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for pair, count in counts.items():
        ways[pair] = [pair, pair[::-1]] * (count // 2) + ([led[pair]] if pair in led else [])
        generator.shuffle(ways[pair])
    shown = []
    for task in tasks:
        left, right = ways[task.left, task.right].pop()
        shown.append(replace(task, left=right, right=left) if swap else replace(task, left=left, right=right))
    return shown


def _swapped(task: Task) -> Task:
    return replace(task, left=task.right, right=task.left)


def oriented(pairs: Sequence[tuple[str, str]], systems: Sequence[str]) -> list[tuple[str, str]]:
    """Every pair with its left system first, such that each system leads as often as it follows, one more or less.

    Pairs are walked in closed rounds (Hierholzer 1873); systems with an odd number of pairs meet in an extra corner.
    """
    corner = ""
    degree = Counter(system for pair in pairs for system in pair)
    edges = [*pairs, *((corner, system) for system in systems if degree[system] % 2)]
    unused = dict(enumerate(edges))
    found: dict[int, tuple[str, str]] = {}
    while unused:
        place = next(iter(unused.values()))[0]
        while (step := next((n for n, edge in unused.items() if place in edge), None)) is not None:
            one, other = unused.pop(step)
            found[step] = (one, other) if place == one else (other, one)
            place = found[step][1]
    return [found[number] for number in range(len(pairs))]


def _in_blocks(tasks: Sequence[Task], design: Design, rater: int) -> list[Task]:
    """Blocks of BLOCK tasks; with several pairs an item, those of one item come in different blocks where they can."""
    each = max(1, len(tasks) // max(1, design.items))
    spread = [task for turn in range(each) for task in tasks[turn::each]]
    generator = _random(design, "order", rater)
    blocks = [spread[start : start + BLOCK] for start in range(0, len(spread), BLOCK)]
    return [task for block in blocks for task in generator.sample(block, len(block))]


def _with_repeats(tasks: Sequence[Task], share: float, generator: random.Random) -> list[Task]:
    """Puts the repeats in: one from every stretch of the order, so that a rater who stops early has some too."""
    last = len(tasks) - GAP
    count = min(int(len(tasks) * share + 0.5), max(0, last))
    after: dict[int, list[int]] = {}
    lead: Counter[str] = Counter()
    for number in range(count):
        stretch = range(number * last // count, (number + 1) * last // count)
        chosen = _even(stretch, tasks, lead, generator)
        place = generator.randint(chosen + GAP, min(chosen + LONGEST_GAP, len(tasks) - 1))
        after.setdefault(place, []).append(chosen)
    found: list[Task] = []
    positions: dict[int, int] = {}
    for index, task in enumerate(tasks):
        positions[index] = len(found)
        found.append(task)
        found += [replace(_swapped(tasks[first]), repeat_of=positions[first]) for first in after.get(index, [])]
    return found


def _even(stretch: range, tasks: Sequence[Task], lead: Counter[str], generator: random.Random) -> int:
    """A task of the stretch whose repeat keeps the sides even. lead: how much more often a system stood left."""
    order = generator.sample(stretch, len(stretch))
    chosen = min(order, key=lambda index: lead[tasks[index].right] - lead[tasks[index].left])
    lead[tasks[chosen].right] += 1
    lead[tasks[chosen].left] -= 1
    return chosen
