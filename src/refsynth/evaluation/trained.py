"""Finds rows that a bundle was trained on among the rows that measure it. Needs the run that made the bundle, and no SciPy.

A bundle holds neither its training rows nor their hashes: with a list of likely texts, hashes would reveal private rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from hashlib import blake2b
from pathlib import Path
from typing import Any

from refsynth.bundle.manifest import Manifest
from refsynth.core.errors import counted
from refsynth.core.files import read_json, read_jsonl
from refsynth.core.types import BoolArray, Metric
from refsynth.data.text import normalize


def text_key(text: str) -> bytes:
    """Return a key that is equal for texts that differ only in case and white space."""
    return blake2b(normalize(text).encode("utf-8", "surrogatepass"), digest_size=16).digest()


def trained_on(folder: Path, manifest: Manifest) -> frozenset[bytes] | None:
    """Return the keys of the labeled rows that a bundle was trained on; None if its run is not found.

    Args:
        folder: the bundle in the folder of its run, or that folder itself.
        manifest: the bundle's manifest, which has the hash of the run's rows.
    """
    for run in (folder, folder.resolve().parent):
        rows = run / "steps" / "rows"
        try:
            if read_json(rows / "step.json")["hash"] == manifest.rows:
                return frozenset(text_key(record["text"]) for record in read_jsonl(rows / "examples.jsonl"))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


UNKNOWN = "Whether it was trained on rows of this file could not be checked: that needs the run folder that holds the bundle."


def in_training(trained: BoolArray | None, figure: Callable[[BoolArray], Metric]) -> dict[str, Any]:
    """Return as JSON how many of N rows a bundle was trained on, its figure on the others, and a sentence about both.

    Args:
        trained: whether it was trained on each row [N]; None if unknown.
        figure: computes the figure on some rows.
    """
    if trained is None:
        return {"rows": None, "new": None, "said": UNKNOWN}
    rows, n = int(trained.sum()), len(trained)
    new = figure(~trained) if rows < n else None
    return {"rows": rows, "new": None if new is None else asdict(new), "said": _sentence(rows, n, new)}


def _sentence(rows: int, n: int, new: Metric | None) -> str:
    if not rows:
        return "It was trained on none of these rows; near-duplicates were not looked for."
    if new is None:
        which = "the only row" if n == 1 else f"all {n:,} rows"
        return f"It was trained on {which}: the figures say nothing about new texts."
    others = f"on the {counted(new.n, 'other row')} {new.name} is {new.percent()}"
    return f"It was trained on {rows:,} of {n:,} rows: {others}."
