"""Sides that read the same texts in turn: the seconds of each pass, ratios within a repeat, and their table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.cells import Cell, Cells
from benchmarks.figures import Check, at_least, figure

Pass = Callable[[Sequence[str], bool], float]
"""Seconds for texts, together or one at a time."""

Latest = Mapping[tuple[str, str], Cell]
"""The newest cell of each set and side."""


class Ratio(NamedTuple):
    """How many times faster one side is than another on a set, in texts/s or with one text at a time."""

    name: str
    ours: str
    over: str
    on: str
    floor: float
    aim: float
    one: bool = False

    def check(self, latest: Latest) -> Check:
        """Return the median of the ratios within a repeat; where nothing could be measured it is missed."""
        key = "alone" if self.one else "seconds"
        theirs, ours = (latest.get((self.on, side), {}).get(key, []) for side in (self.over, self.ours))
        pairs = zip(theirs, ours, strict=True) if theirs and ours else ()
        return ratios(self.name, [one / other for one, other in pairs], self.floor, self.aim)


def ratios(name: str, found: Sequence[float], floor: float, aim: float) -> Check:
    """Return a check on the median of ratios."""
    return at_least(name, figure(found, "x", over="repeats", statistic=np.median), floor, aim)


def latest_of(cells: Cells) -> Latest:
    """Return the newest cell of each set and side."""
    return {(cell["set"], cell["system"]): cell for cell in cells.rows}


def timing(ask: Callable[[Sequence[str]], Any], *, times: int = 1) -> Pass:
    """Return what times a side; one that is fast is asked so many `times`, and its time shared out."""

    def seconds(texts: Sequence[str], one: bool) -> float:
        started = time.perf_counter()
        for _ in range(times):
            for batch in [[text] for text in texts] if one else [texts]:
                ask(batch)
        return (time.perf_counter() - started) / times

    return seconds


def in_turn(
    sides: Mapping[str, Pass], texts: Sequence[str], *, alone: int, repeats: int, warm: int = 0
) -> dict[str, dict[str, list[float]]]:
    """Return for each side the seconds of each pass, and those of one of the first `alone` texts by itself.

    The sides take turns, so that what else the machine does falls on all; the first `warm` turns do not count.
    """
    first = texts[:alone]
    found: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "alone": []} for name in sides}
    for turn in range(warm + repeats):
        for name, seconds in sides.items():
            whole, single = seconds(texts, False), seconds(first, True) / len(first)
            if turn >= warm:
                found[name]["seconds"].append(whole)
                found[name]["alone"].append(single)
    return found


def speeds(cell: Cell) -> list[str]:
    """Return texts per second and the milliseconds of a text alone, as a table has them."""
    return [f"{cell['texts'] / np.median(cell['seconds']):,.0f}", f"{1000 * np.median(cell['alone']):.2f}"]
