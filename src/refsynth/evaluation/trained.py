"""Rows that a bundle has learned from, among rows that it is measured on. Needs the run that made the bundle, and no SciPy.

A bundle holds neither its rows nor hashes of them: whoever has a list of likely texts could look up in those which were private
rows of somebody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

from refsynth.bundle.manifest import Manifest
from refsynth.core.errors import counted
from refsynth.core.run import read_json, read_jsonl
from refsynth.core.types import BoolArray, Metric
from refsynth.data.text import normalise


def text_key(text: str) -> bytes:
    """Return what texts share that are equal but for case and white space."""
    return blake2b(normalise(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def trained_on(folder: Path, manifest: Manifest) -> frozenset[bytes] | None:
    """Return the keys of the labeled rows that a bundle learned from; None where its run is not known.

    Args:
        folder: the bundle, which stands in the folder of its run, or that folder itself.
        manifest: of the bundle: it names the rows, by their hash, that its run read.
    """
    for run in (folder, folder.resolve().parent):
        rows = run / "steps" / "rows"
        try:
            if read_json(rows / "step.json")["hash"] == manifest.rows:
                return _keys(record["text"] for record in read_jsonl(rows / "examples.jsonl"))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _keys(texts: Iterable[str]) -> frozenset[bytes]:
    return frozenset(map(text_key, texts))


UNKNOWN = "Whether it learned from rows of this file could not be checked: that needs the folder of its run around the bundle."


def in_training(taught: BoolArray | None, figure: Callable[[BoolArray], Metric]) -> dict[str, Any]:
    """Return how many of N rows a bundle learned from, its figure on the others, and what that makes of all figures, as JSON.

    Args:
        taught: whether it learned from each [N]; None where nobody knows.
        figure: gives the figure on some rows.
    """
    if taught is None:
        return {"rows": None, "new": None, "said": UNKNOWN}
    rows, n = int(taught.sum()), len(taught)
    new = figure(~taught) if rows < n else None
    return {"rows": rows, "new": None if new is None else asdict(new), "said": _said(rows, n, new)}


def _said(rows: int, n: int, new: Metric | None) -> str:
    if not rows:
        return "None of these rows is one that it learned from; near-copies are not looked for."
    if new is None:
        which = "The only row is one" if n == 1 else f"All {n:,} rows are rows"
        return f"{which} that it learned from, in training: the figures say nothing of new texts."
    are = "rows is one" if rows == 1 else "rows are ones"
    others = f"on the {counted(new.n, 'other row')} {new.name} is {new.percent()}"
    return f"{rows:,} of {n:,} {are} that it learned from, in training: {others}."
