"""Several annotators: their votes read from a file, joined to one label per text, with what can be said of each annotator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from refsynth.core.errors import DataError, counted
from refsynth.core.types import FloatArray
from refsynth.data.labelled import open_table
from refsynth.data.labels import as_label, one_label
from refsynth.data.table import Fault, TableRecord
from refsynth.data.text import clean, normalise
from refsynth.labels.consensus import Consensus, Votes, dawid_skene, majority, tally

Method = Literal["dawid-skene", "majority"]

REPEATED, CONTRADICTED = "that repeat a vote", "that contradict another vote of the same annotator"
"""Why rows with a vote do not count."""


class Fields(NamedTuple):
    """Which columns hold what."""

    text: str = "text"
    annotator: str = "annotator"
    label: str = "label"


class Crowd(NamedTuple):
    """Votes, with what their numbers stand for; `skipped` counts rows that are no vote, by why."""

    votes: Votes
    texts: tuple[str, ...]
    annotators: tuple[str, ...]
    labels: tuple[str, ...]
    skipped: Mapping[str, int]


def read_crowd(path: Path, *, fields: Fields = Fields(), delimiter: str | None = None, encoding: str | None = None) -> Crowd:  # noqa: B008 - a tuple
    """Read a file with one row per text and annotator (CSV, TSV, JSONL or Parquet). Equal texts are one, and so are equal votes.

    Raises:
        DataError: the file cannot be read, lacks a column, or has votes for fewer than two labels.
    """
    skipped: Counter[str] = Counter()
    found: list[tuple[str, str, str]] = []
    with open_table(path, delimiter=delimiter, encoding=encoding) as table:
        columns = list(table.columns or ())
        for record in table.records:
            vote = _vote(record, fields)
            if isinstance(record, TableRecord):
                columns += [name for name in record.values if name not in columns]
            if isinstance(vote, str):
                skipped[vote] += 1
            else:
                found.append(vote)
    for name in fields:
        if name not in columns:
            remedy = "name the columns with --text, --annotator and --label"
            raise DataError(f"{path}: no column '{name}'", known=f"columns there: {', '.join(columns[:12])}", remedy=remedy)
    found = _once(found, skipped)
    labels = tuple(sorted({label for *_, label in found}))
    if len(labels) < 2:
        why = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise DataError(
            f"{path}: votes for {counted(len(labels), 'label')} ({why or 'no more rows'})", expected="votes for at least two"
        )
    texts = {normalise(text): text for text, *_ in reversed(found)}
    places = {key: place for place, key in enumerate(dict.fromkeys(normalise(text) for text, *_ in found))}
    annotators = tuple(sorted({annotator for _, annotator, _ in found}))
    numbers = [(places[normalise(text)], annotators.index(who), labels.index(label)) for text, who, label in found]
    items, sources, classes = np.array(numbers, int).T
    votes = Votes(items, sources, classes, len(places), len(annotators), len(labels))
    return Crowd(votes, tuple(texts[key] for key in places), annotators, labels, dict(skipped))


def _vote(record: TableRecord | Fault, fields: Fields) -> tuple[str, str, str] | str:
    """Return text, annotator and label of a row, or why it is no vote."""
    if isinstance(record, Fault):
        return "unreadable"
    text, who, label = (record.values.get(name) for name in fields)
    if not isinstance(text, str) or not clean(text):
        return "without a text"
    named, given = as_label(who), one_label(label)
    if not named or not given:
        return f"without {'an annotator' if not named else 'a label'}"
    return clean(text), named, given


def _once(votes: Sequence[tuple[str, str, str]], skipped: Counter[str]) -> list[tuple[str, str, str]]:
    """Return one vote of each annotator for each text, and count the others.

    Votes of one annotator that contradict each other all go, as rows of a text with two labels do: their order in a file does
    not tell which was meant.
    """
    keys = [(normalise(text), who) for text, who, _ in votes]
    said: dict[tuple[str, str], set[str]] = {}
    for key, (*_, label) in zip(keys, votes, strict=True):
        said.setdefault(key, set()).add(label)
    kept: dict[tuple[str, str], tuple[str, str, str]] = {}
    for key, vote in zip(keys, votes, strict=True):
        if len(said[key]) > 1:
            skipped[CONTRADICTED] += 1
        elif kept.setdefault(key, vote) is not vote:
            skipped[REPEATED] += 1
    return list(kept.values())


def agree(crowd: Crowd, *, method: Method = "dawid-skene") -> Consensus:
    """Return what the votes say together; of a majority vote, each annotator's answers against the majority's."""
    if method == "dawid-skene":
        return dawid_skene(crowd.votes)
    shares = majority(crowd.votes)
    return Consensus(shares, shares.mean(0), _against(crowd.votes, shares))


def _against(votes: Votes, shares: FloatArray) -> FloatArray:
    counts = tally(votes, shares)
    total = counts.sum(2, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1e-300), 1 / votes.k)


def describe(crowd: Crowd, consensus: Consensus) -> list[dict[str, Any]]:
    """Return what can be said of each annotator, as JSON-ready values, the best first."""
    votes = np.bincount(crowd.votes.sources, minlength=crowd.votes.j)
    lines = [
        {
            "annotator": name,
            "votes": int(votes[place]),
            "accuracy": round(float(consensus.accuracy[place]), 4),
            "confusion": {label: _named(crowd.labels, row) for label, row in zip(crowd.labels, table, strict=True)},
        }
        for place, (name, table) in enumerate(zip(crowd.annotators, consensus.confusion, strict=True))
    ]
    return sorted(lines, key=lambda line: -line["accuracy"])


def _named(labels: Sequence[str], row: FloatArray) -> dict[str, float]:
    return {label: round(float(value), 4) for label, value in zip(labels, row, strict=True)}
