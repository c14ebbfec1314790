"""The tables of the documents, printed from the measured cells between marks: `<!-- table: NAME -->` and `<!-- /table -->`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from benchmarks.bench import load
from benchmarks.cells import Cells
from benchmarks.figures import MEANS
from refsynth.core.errors import InputError

TABLES: Mapping[str, str] = {
    **{name: "table" for name in ("fewshot", "peft", "kinds", "serve-core", "distill")},
    **{"active": "needs", "prompting": "by_calibration", "serve": "held"},
}
"""Each table that a document may show, by its bench, and the function of the bench that makes it."""

NAMES: Mapping[str, Mapping[str, str]] = {
    "fewshot": {
        f"system: {MEANS}": "8 labeled rows per class",
        "tfidf": "TF-IDF + LR",
        "frozen": "frozen encoder + LR",
        "finetune": "full fine-tuning",
        "setfit": "SetFit",
        "real only": "ours, real rows only",
        "real + synthetic": "ours, real + synthetic",
        "shipped": "**ours, shipped (int8)**",
    },
    "peft": {f"system: {MEANS}": "64 labeled rows per class"},
    "kinds": {f"score: {MEANS}": "score"},
    "prompting": {"none": "as it comes"},
}
"""What documents call some cells of a table; its other cells stand as the bench prints them."""

MARKED = re.compile(r"(?<=<!-- table: )(\S+)( -->\n).*?(?=<!-- /table -->)", re.DOTALL)


def printed(name: str, results: Path) -> str:
    """Return a table as documents show it.

    Raises:
        InputError: there is no such table.
    """
    if name not in TABLES:
        raise InputError(f"no table '{name}'", expected=", ".join(TABLES))
    bench, cells = load(name), Cells(results / f"{name}.jsonl")
    cells = cells.view([cell for cell in cells.rows if not cell.get("quick")])
    make: Callable[[Cells], str] = getattr(bench, TABLES[name])
    if bench.TIMED:  # times of two machines do not stand in one table
        machine, _ = Counter(cell["machine"] for cell in cells.rows).most_common(1)[0]
        table = make(cells.view(cells.find(machine=machine))) + f"\n\nMeasured on {machine}."
    else:
        table = make(cells)
    for cell, called in NAMES.get(name, {}).items():
        table = table.replace(f"| {cell} |", f"| {called} |")
    return table


def write(root: Path) -> list[Path]:
    """Print the tables of the documents below `root` anew, and return those documents that have changed."""
    changed = list(_changed(root))
    for path, text in changed:
        path.write_text(text, "utf-8")
    return [path for path, _ in changed]


def stale(root: Path) -> list[Path]:
    """Return the documents below `root` with a table that is not what the cells give."""
    return [path for path, _ in _changed(root)]


def _changed(root: Path) -> Iterator[tuple[Path, str]]:
    results = root / "benchmarks" / "results"
    for path in (root / "README.md", *sorted((root / "docs").rglob("*.md"))):
        text = path.read_text("utf-8")
        new = MARKED.sub(lambda found: f"{found[1]}{found[2]}{printed(found[1], results)}\n", text)
        if new != text:
            yield path, new
