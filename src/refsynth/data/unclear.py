"""Errors on files in which `init` cannot find text and label: what was found, and a remedy for the file's format.

Places inside JSON objects are given as jq paths.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from refsynth.core.errors import DataError
from refsynth.core.sections import parts_of
from refsynth.data.table import Format, Table, kind_of
from refsynth.data.tally import LabelTally

_NO_JSON = re.compile(r"row \d+: (not valid|not usable|found) JSON")
_SHOWN = 12  # columns in a message
_LIKELY = ("result", "value", "choices", "label", "labels", "name")  # keys of an object that hold a label

WORDS_REMEDY = "if words have labels, as in [Ann Lee](person), say --words"
"""Remedy if a file may have labels of words."""


def nothing(path: Path, table: Table, troubles: Sequence[str]) -> DataError:
    """Return the error on a file without a readable row."""
    what = f"no row can be read; {troubles[0]}" if troubles else f"no rows{' below the header' if table.format == 'csv' else ''}"
    remedy = ""
    if troubles and _NO_JSON.match(troubles[0]):
        remedy = f"each line must be one JSON object; this makes it so: jq -c . {path.name} > flat.jsonl"
    elif troubles and table.format == "csv":
        shown = ", ".join(f"'{column}'" for column in (table.columns or ())[:_SHOWN])
        remedy = f"the first line must name all columns, and it has {shown}; take out a title or a comment that stands above them"
    return DataError(f"{path}: {what}", expected="labeled rows", remedy=remedy)


def no_labels(path: Path, form: Format, column: str, counter: LabelTally) -> DataError:
    """Return the error on a file whose label column holds no label."""
    remedy = "name another column with --label-column"
    if form == "jsonl":
        inside = _inside(counter.strange, _key_at(column))
        remedy += f", or rewrite the rows with plain labels, e.g.: jq -c '.label = {inside}' {path.name} > flat.jsonl"
    return DataError(f"{path}: no labels in column '{column}'; {counter.wrong}", remedy=remedy)


def unclear(
    path: Path,
    table: Table,
    columns: tuple[str, ...],
    first: Mapping[str, Any],
    text: str | None,
    label: str | None,
    *,
    marked: bool,
) -> DataError:
    """Return the error on a file whose columns of text and label are not clear.

    Args:
        path: the file.
        table: the file, opened.
        columns: its columns.
        first: its first row.
        text: the text column, if the user named one or one is likely.
        label: the same for the label column.
        marked: whether words may have labels.
    """
    wrong = [part for name in (text, label) if name and name not in columns for part in parts_of(name) if part not in columns]
    what = f"no column '{wrong[0]}'" if wrong else f"not clear which column holds the {'label' if text else 'text'}"
    names = [f"{name} (a JSON {kind_of(first[name])})" if isinstance(first.get(name), dict | list) else name for name in columns]
    shown = ", ".join(name or "(no name)" for name in names[:_SHOWN]) or "none"
    remedy = "name the columns of text and label with --text-column and --label-column"
    if wrong and len(joined := [part.strip() for part in re.split("[,;+&|]", wrong[0])]) > 1 and {*joined} <= {*columns}:
        remedy = f'several columns are named with " + " between: "{" + ".join(joined)}"'
    rows = next((name for name, value in first.items() if isinstance(value, list) and value and isinstance(value[0], dict)), None)
    if rows is not None and len(columns) == 1:
        remedy = f"the rows stand inside '{rows}'; extract them: jq -c '.{rows}[]' {path.name} > flat.jsonl"
    elif table.format == "jsonl":
        nested = [f". + {_key_at(name)}" for name, value in first.items() if isinstance(value, dict)]
        nested += [f".label = {_inside(value, _key_at(name))}" for name, value in first.items() if _of_objects(value)]
        if nested:
            remedy += f"; flatten nested values: jq -c '{' | '.join(nested)}' {path.name} > flat.jsonl"
    elif table.format == "csv":
        title = ", each of them; take out a title that stands above" if "" in columns else ""
        remedy = f"the first line must name the columns{title}; {remedy}"
    return DataError(f"{path}: {what}", known=f"columns there: {shown}", remedy=remedy + f"; {WORDS_REMEDY}" * marked)


def tags_for_labels(path: Path, what: str, *, lists: bool) -> DataError:
    """Return the error on a file whose labels are tags of words: one per row, or in lists (`lists`) without a list of words."""
    remedy = (
        "name the columns of both lists with --text-column and --label-column"
        if lists
        else "add a column sentence_id, or write a .conll file (a line per word with its tag, a blank line after a sentence), or "
        'JSON lines with {"tokens": [...], "tags": [...]}; if each word is a text of its own, name the column with --label-column'
    )
    return DataError(f"{path}: {what}", expected="one row per sentence, with its words and their tags", remedy=remedy)


def _of_objects(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _key_at(name: str) -> str:
    """Return the jq path of a key."""
    return f".{name}" if name.isidentifier() and name.isascii() else f".[{json.dumps(name, ensure_ascii=False)}]"


def _inside(value: Any, place: str) -> str:
    """Return the jq path of a likely label inside a value."""
    if isinstance(value, list) and _of_objects(value):
        return _inside(value[0], f"{place}[0]")
    if not isinstance(value, dict) or not value:
        return place
    key = next((name for name in _LIKELY if name in value), next(iter(value)))
    return _inside(value[key], place + _key_at(str(key)))
