"""What does the server withstand and how fast is it: load, faults and attack, on loopback?"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench import BUILD, Options, Work
from benchmarks.cells import Cell, Cells
from benchmarks.figures import Check, markdown
from benchmarks.serve.plan import LONG, QUICK, Bound, Job, Size
from benchmarks.serve.subject import example_bundle

BUDGET = 240
TIMED = True
PARTS = ("peers", "identity", "overload", "hoard", "siege", "kills", "soak", "fuzz", "privacy")
"""Modules with `measure(job)` and `BOUNDS`."""
APART = ("tricks",)
"""Measured only where they are named: they compare the server with itself, and hold it to nothing."""
COMMON = ("part", "size", "version", "run", "machine", "name", "repeat")
"""What is no figure of a cell."""


def cells(options: Options) -> Iterator[Work]:
    """Yield the parts."""
    size = QUICK if options.quick else LONG
    for part in options.parts((*PARTS, *APART)) if options.only else PARTS:
        yield Work({"part": part, "size": size.name}, partial(_measure, options, part, size))


def _measure(options: Options, part: str, size: Size) -> list[Cell]:
    options.say(f"{part} ({size.name})")
    work, run = BUILD / "serve", int(time.time())  # the newest run has the highest number
    if (work / part).exists():
        _empty(work / part)
    subject = options.bundle.resolve() if options.bundle else example_bundle(work / "example")
    found: list[Cell] = []
    import_module(f"benchmarks.serve.{part}").measure(Job(subject, work / part, size, found.append, options.say))
    return [{**cell, "run": run} for cell in found]


def checks(cells: Cells) -> list[Check]:
    """Return the figures of the last run of each part against their bounds."""
    found: list[Check] = []
    for part in PARTS:
        if last := _last(cells, part):
            bounds: tuple[Bound, ...] = import_module(f"benchmarks.serve.{part}").BOUNDS
            found += [bound.check(last) for bound in bounds]
    return found


def held(cells: Cells) -> str:
    """Return for each part what never happened, and its other figures with what they are held to in brackets."""
    peers = _last(cells, "peers")
    versus = sorted({figure for cell in peers for figure in cell if figure.startswith("over ") and "32 clients" in figure})
    more = {"peers": [f"{name} {_middle([cell[name] for cell in peers if name in cell])}" for name in versus]}
    rows = []
    held = checks(cells)
    for part in (part for part in PARTS if _last(cells, part)):
        found = [one for one in held if one["name"].startswith(f"{part}: ")]
        never = [one for one in found if one["value"] == one.get("limit") == 0]
        names = ", ".join(one["name"].partition(": ")[2] for one in never)
        rows.append([part, names, "; ".join([*(_bounded(one) for one in found if one not in never), *more.get(part, [])])])
    return markdown(["part", "none at all", "measured (bound)"], rows)


def _bounded(check: Check) -> str:
    bound = f"at most {check['limit']:g}" if "limit" in check else f"at least {check['floor']:g}"
    return f"{check['name'].partition(': ')[2]} {check['value']:.4g} ({bound})"


def table(cells: Cells) -> str:
    """Return a line for each setting: the median of each figure over its cells, of the last run of each part."""
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for part in (*PARTS, *APART):
        for cell in _last(cells, part):
            setting = tuple(cell.get(name) for name in ("part", "size", "name", "clients", "texts"))
            groups.setdefault(setting, []).append(cell)
    rows = []
    for (part, size, name, *_), some in groups.items():
        names = dict.fromkeys(figure for cell in some for figure in cell if figure not in COMMON)
        figures = [f"{figure} {_middle([cell[figure] for cell in some if figure in cell])}" for figure in names]
        if figures:
            rows.append([f"{part} ({size})", name, len(some), ", ".join(figures)])
    return markdown(["part", "what", "cells", "figures"], rows)


def _last(cells: Cells, part: str) -> list[Cell]:
    found = cells.find(part=part)
    return [cell for cell in found if cell["run"] == max(each["run"] for each in found)]


def _middle(values: Sequence[Any]) -> Any:
    """Return the median of numbers; of what is none, the first."""
    numbers = [value for value in values if isinstance(value, int | float)]
    return f"{np.median(numbers):g}" if numbers else values[0]


def _empty(folder: Path) -> None:
    """Remove what an earlier run left, but the peers' environments: they take minutes to make."""
    for path in folder.iterdir():
        if path.name == "venvs":
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
