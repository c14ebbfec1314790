"""The parts of `refsynth bench serve`, what is still to be measured, and the checks that are made from the cells."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cells import Cell, Cells
from benchmarks.serve.plan import Bound, Job, Size
from benchmarks.serve.subject import example_bundle
from refsynth.core.errors import InputError, nearest
from refsynth.core.machine import describe_machine

PARTS = ("peers", "identity", "overload", "hoard", "siege", "kills", "soak", "fuzz", "privacy")
"""Modules with `measure(job)` and `BOUNDS`."""
RESULTS = "serve.jsonl"
WORK = Path("build") / "bench" / "serve"


def chosen(only: str | None) -> tuple[str, ...]:
    """Return the parts that are named, in their usual order.

    Raises:
        InputError: one is unknown.
    """
    wanted = PARTS if only is None else tuple(name.strip() for name in only.split(","))
    for name in wanted:
        if name not in PARTS:
            raise InputError(f"unknown part '{name}'", expected=", ".join(PARTS), remedy=nearest(name, PARTS))
    return tuple(name for name in PARTS if name in wanted)


def measure(
    results: Path, *, bundle: Path | None, parts: Sequence[str], size: Size, again: bool, version: str, say: Callable[[str], None]
) -> Cells:
    """Measure the parts of this size that this version has not finished, or all of them `again`; return all cells.

    Args:
        results: folder of the file that cells are appended to.
        bundle: what is served; None is one of the built-in example, trained now.
        parts: names of parts.
        size: how much.
        again: measure what is measured already.
        version: of this package.
        say: is told how it goes.
    """
    cells = Cells(results / RESULTS, machine=describe_machine())
    for part in parts:
        key = {"part": part, "size": size.name, "version": version}
        if cells.find(**key, name="finished") and not again:
            continue
        say(f"{part} ({size.name})")
        folder = WORK / part
        if folder.exists():
            _empty(folder)
        common = {
            **key,
            "run": 1 + max((cell["run"] for cell in cells.find(part=part)), default=0),
            "machine": describe_machine(),
        }

        def add(cell: Cell, common: Cell = common) -> None:
            cells.add({**common, **cell})

        subject = bundle or example_bundle(WORK / "example")
        import_module(f"benchmarks.serve.{part}").measure(Job(subject, folder, size, add, say))
        add({"name": "finished"})
    return cells


def outcome(cells: Cells, parts: Sequence[str]) -> dict[str, Any]:
    """Return a table of all figures of the last run of each part, and the checks against their bounds."""
    rows: list[Cell] = []
    checks: list[dict[str, Any]] = []
    for part in parts:
        found = cells.find(part=part)
        last = [cell for cell in found if cell["run"] == max(each["run"] for each in found)]
        rows += last
        bounds: tuple[Bound, ...] = import_module(f"benchmarks.serve.{part}").BOUNDS
        checks += [bound.check(last) for bound in bounds] if last else []
    return {"name": "serve", "machine": describe_machine(), "rows": rows, "checks": checks, "table": _table(rows)}


_COMMON = ("part", "size", "version", "run", "machine", "name", "repeat")


def _table(rows: Sequence[Cell]) -> str:
    """Return a line for each setting: the median of each figure over its cells."""
    groups: dict[tuple[Any, ...], list[Cell]] = {}
    for cell in rows:
        setting = tuple(cell.get(name) for name in ("part", "size", "name", "clients", "texts"))
        groups.setdefault(setting, []).append(cell)
    lines = ["| part | what | cells | figures |", "|---|---|---|---|"]
    for (part, size, name, *_), cells in groups.items():
        names = dict.fromkeys(figure for cell in cells for figure in cell if figure not in _COMMON)
        figures = {figure: _middle([cell[figure] for cell in cells if figure in cell]) for figure in names}
        if figures:
            shown = ", ".join(f"{figure} {value}" for figure, value in figures.items())
            lines.append(f"| {part} ({size}) | {name} | {len(cells)} | {shown} |")
    return "\n".join(lines)


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
