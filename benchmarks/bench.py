"""What a bench is, and how it is run: cells that are there are read, those that are missing are measured and appended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import refsynth
from benchmarks.cells import Cell, Cells
from benchmarks.figures import Check
from refsynth.core.errors import InputError, nearest
from refsynth.core.machine import describe_machine

BENCHES: Mapping[str, str] = {
    **{name: name for name in ("fewshot", "chinese", "names", "prompting", "influence", "selection", "loop", "reinforce")},
    **{name: name for name in ("active", "crowds", "evidence", "kinds", "peft", "trainer", "drafting", "scale")},
    **{name: name for name in ("distill", "cascade", "contract", "quantize")},
    **{"serve-core": "serve_core", "serve": "serve.suite"},
}
"""Each bench by its name, and the module below this package that it is."""

BUILD = Path("build") / "bench"
"""Where benches keep what takes long to make again, and their runs while they last."""


def quiet(line: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Options:
    """How a bench is run."""

    data: Path = Path("data")
    """Folder of the data sets."""
    results: Path = Path("benchmarks") / "results"
    seeds: int | None = None
    """Draws 0 to N-1; the bench's own number if left out."""
    only: tuple[str, ...] = ()
    """Data sets, or parts of `serve`; all if empty."""
    quick: bool = False
    """Measure less, in under ten minutes."""
    again: bool = False
    """Measure what is measured already."""
    bundle: Path | None = None
    """What `serve` serves, instead of the example."""
    say: Callable[[str], None] = quiet

    def parts(self, every: tuple[str, ...], *, quick: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """Return the chosen parts in their usual order: those of `--only`, or with `--quick` those of `quick`, or all.

        Raises:
            InputError: one is unknown.
        """
        for name in self.only:
            if name not in every:
                expected = ", ".join(every)
                raise InputError(f"--only {name}: not in this bench", expected=expected, remedy=nearest(name, every))
        chosen = self.only or (quick if self.quick and quick is not None else every)
        return tuple(name for name in every if name in chosen)


class Work(NamedTuple):
    """Cells that are measured together: what they share, and how they are measured."""

    key: Cell
    measure: Callable[[], Iterable[Cell]]
    systems: tuple[str, ...] = ()
    """The `system` of each cell; if empty, any cell with the key says that all are there."""
    turns: bool = False
    """The sides take turns and are compared with one another: none is kept before all are measured."""


class Bench(Protocol):
    """A module whose docstring opens with the question that it answers."""

    BUDGET: int
    """Minutes on two cores."""
    TIMED: bool
    """Whether it measures times, so that cells of other machines do not count."""

    def cells(self, options: Options) -> Iterable[Work]:
        """Yield all that is to be measured; what is slow to prepare is prepared when it is first measured."""

    def table(self, cells: Cells) -> str:
        """Return what was measured as Markdown."""

    def checks(self, cells: Cells) -> list[Check]:
        """Return the figures that are held to a floor or a limit."""


def load(name: str) -> Bench:
    """Return a bench by its name.

    Raises:
        ModuleNotFoundError: a package that it needs is not installed.
    """
    return cast("Bench", import_module(f"benchmarks.{BENCHES[name]}"))


def run(name: str, options: Options) -> dict[str, Any]:
    """Measure what is missing of a bench, and return all its cells with the table and the checks."""
    return measured(load(name), name, options)


def measured(bench: Bench, name: str, options: Options) -> dict[str, Any]:
    """Do what `run` does with a bench that is loaded."""
    machine = describe_machine()
    cells = Cells(options.results / f"{name}.jsonl", machine=machine if bench.TIMED else None)
    for work in bench.cells(options):
        key = {"version": refsynth.__version__, **work.key} | ({"quick": True} if options.quick else {})
        there = [one.get("system") for one in cells.find(**key)] if not options.again else []
        if set(work.systems) <= set(there) if work.systems else there:
            continue
        for cell in list(work.measure()) if work.turns else work.measure():
            if work.turns or not work.systems or cell["system"] not in there:
                cells.add({**key, **cell, "machine": machine})
                options.say(_progress({**work.key, **cell}))
    cells = cells.within(options.only)
    return {"name": name, "machine": machine, "rows": cells.rows, "checks": bench.checks(cells), "table": bench.table(cells)}


def _progress(cell: Cell) -> str:
    """Return one line about a cell: what it is of, its principal figure, its seconds."""
    words = [str(cell[key]) for key in ("part", "set", "system", "name") if key in cell]
    words += [f"{key} {cell[key]}" for key in ("seed", "shots", "train", "drafts") if isinstance(cell.get(key), int)]
    words += [f"{key} {cell[key]:.3f}" for key in ("accuracy", "macro_f1", "score", "rate") if key in cell]
    seconds = cell.get("seconds")
    return ", ".join(words) + (f" ({seconds:.0f} s)" if isinstance(seconds, int | float) else "")
