"""Several annotators: reads their votes from a file, and describes the quality of each annotator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from refsynth.core.errors import DataError, counted
from refsynth.data.formats import open_table
from refsynth.data.labels import as_label, one_label
from refsynth.data.table import Fault, TableRecord
from refsynth.data.text import clean, normalize
from refsynth.labels.consensus import Consensus, Votes, dawid_skene, majority, tally

Method = Literal["dawid-skene", "majority"]

REPEATED, CONTRADICTED = "that repeat a vote", "that contradict another vote of the same annotator"
"""Reasons why votes do not count."""


class Fields(NamedTuple):
    """The columns of a file of votes."""

    text: str = "text"
    annotator: str = "annotator"
    label: str = "label"


class Crowd(NamedTuple):
    """Votes, with the texts, annotators and labels of their indices; `skipped` counts the other rows by reason."""

    votes: Votes
    texts: tuple[str, ...]
    annotators: tuple[str, ...]
    labels: tuple[str, ...]
    skipped: Mapping[str, int]


def read_crowd(path: Path, *, fields: Fields = Fields(), delimiter: str | None = None, encoding: str | None = None) -> Crowd:  # noqa: B008 - a tuple
    """Read a file with one row per text and annotator (CSV, TSV, JSONL or Parquet). Repeated votes count once.

    Raises:
        DataError: the file cannot be read, lacks a column, or has votes for fewer than two labels.
    """
    skipped: Counter[str] = Counter()
    rows: list[tuple[str, str, str]] = []
    with open_table(path, delimiter=delimiter, encoding=encoding) as table:
        columns = list(table.columns or ())
        for record in table.records:
            vote = _vote(record, fields)
            if isinstance(record, TableRecord):
                columns += [name for name in record.values if name not in columns]
            if isinstance(vote, str):
                skipped[vote] += 1
            else:
                rows.append(vote)
    for name in fields:
        if name not in columns:
            remedy = "name the columns with --text, --annotator and --label"
            raise DataError(f"{path}: no column '{name}'", known=f"columns there: {', '.join(columns[:12])}", remedy=remedy)
    rows = _once(rows, skipped)
    labels = tuple(sorted({label for *_, label in rows}))
    if len(labels) < 2:
        why = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        raise DataError(
            f"{path}: votes for {counted(len(labels), 'label')} ({why or 'no more rows'})", expected="votes for at least two"
        )
    texts = {normalize(text): text for text, *_ in reversed(rows)}
    places = {key: place for place, key in enumerate(dict.fromkeys(normalize(text) for text, *_ in rows))}
    annotators = tuple(sorted({annotator for _, annotator, _ in rows}))
    numbers = [(places[normalize(text)], annotators.index(who), labels.index(label)) for text, who, label in rows]
    items, sources, classes = np.array(numbers, int).T
    votes = Votes(items, sources, classes, len(places), len(annotators), len(labels))
    return Crowd(votes, tuple(texts[key] for key in places), annotators, labels, dict(skipped))


def _vote(record: TableRecord | Fault, fields: Fields) -> tuple[str, str, str] | str:
    """Return text, annotator and label of a row, or why it is not a vote."""
    if isinstance(record, Fault):
        return "unreadable"
    text, who, label = (record.values.get(name) for name in fields)
    if not isinstance(text, str) or not clean(text):
        return "without a text"
    annotator, name = as_label(who), one_label(label)
    if not annotator or not name:
        return f"without {'an annotator' if not annotator else 'a label'}"
    return clean(text), annotator, name


def _once(votes: Sequence[tuple[str, str, str]], skipped: Counter[str]) -> list[tuple[str, str, str]]:
    """Return one vote of each annotator for each text, and count the others in `skipped`.

    If one annotator's votes for a text contradict each other, none counts: their order does not tell which one was meant.
    """
    keys = [(normalize(text), who) for text, who, _ in votes]
    labels: dict[tuple[str, str], set[str]] = {}
    for key, (*_, label) in zip(keys, votes, strict=True):
        labels.setdefault(key, set()).add(label)
    kept: dict[tuple[str, str], tuple[str, str, str]] = {}
    for key, vote in zip(keys, votes, strict=True):
        if len(labels[key]) > 1:
            skipped[CONTRADICTED] += 1
        elif kept.setdefault(key, vote) is not vote:
            skipped[REPEATED] += 1
    return list(kept.values())


def agree(crowd: Crowd, *, method: Method = "dawid-skene") -> Consensus:
    """Return the consensus of the votes; with `majority`, annotators are compared with the majority."""
    votes = crowd.votes
    if method == "dawid-skene":
        return dawid_skene(votes)
    shares = majority(votes)
    counts = tally(votes, shares)
    total = counts.sum(2, keepdims=True)
    return Consensus(shares, shares.mean(0), np.where(total > 0, counts / np.maximum(total, 1e-300), 1 / votes.k))


def describe(crowd: Crowd, consensus: Consensus) -> list[dict[str, Any]]:
    """Return votes, accuracy and confusion of each annotator as JSON-ready values, the most accurate first."""
    votes = np.bincount(crowd.votes.sources, minlength=crowd.votes.j)
    lines = [
        {
            "annotator": name,
            "votes": int(votes[place]),
            "accuracy": round(float(consensus.accuracy[place]), 4),
            "confusion": {
                label: dict(zip(crowd.labels, (round(float(value), 4) for value in row), strict=True))
                for label, row in zip(crowd.labels, table, strict=True)
            },
        }
        for place, (name, table) in enumerate(zip(crowd.annotators, consensus.confusion, strict=True))
    ]
    return sorted(lines, key=lambda line: -line["accuracy"])
