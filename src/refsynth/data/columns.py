"""Finds the columns of a table: checks those that the user named, and guesses others by their names and values."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from refsynth.core.errors import DataError, nearest
from refsynth.core.pair import split_pair
from refsynth.core.sections import Columns, parts_of

_TEXT_NAMES = """text message utterance sentence body content review comment query question description ticket tweet post document
title 文本 内容 正文 句子 消息 评论 问题"""
_LABEL_NAMES = """label intent category class target sentiment topic tag labels type queue
标签 类别 分类 意图 类型"""
_YES_NO = ({"0", "1"}, {"false", "true"})
_NO = ({"0"}, {"false"})
_ID_NAME = re.compile(
    r"(.*[\W_])?(id|uuid|guid|key|ref|reference|nr|no|num|number|#|编号)|(ticket|case|order|message|mail|row|issue)s?(id|nr|no)?|.*[a-z]I[dD]",
    re.IGNORECASE,
)
_LONGEST_ID = 64  # characters
_SHOWN = 12  # columns in a message
_LONGEST_LABEL = 60  # characters, on average


def named_text(columns: Collection[str]) -> str | None:
    """Return the column with a usual name of a text column, or None."""
    return _named(columns, _TEXT_NAMES.split())


def named_label(columns: Collection[str]) -> str | None:
    """Return the column with a usual name of a label column, or None."""
    return _named(columns, _LABEL_NAMES.split())


def _named(columns: Collection[str], names: Sequence[str]) -> str | None:
    known: dict[str, str] = {}
    for column in columns:
        known.setdefault(column.strip().casefold(), column)
    known |= {column: column for column in columns}  # an exact name comes before one in another case
    return next((known[name] for name in names if name in known), None)


def own_id(values: Mapping[str, Any], columns: Columns) -> Any:
    """Return the user's id of a row, or None. If the task names no id column, it is `id` in any case."""
    name = columns.id
    if name is None:
        name = "id" if "id" in values else next((key for key in values if key.strip().casefold() == "id"), "id")
    return values.get(name)


def text_fields(text: str, columns: Columns) -> dict[str, str]:
    """Return the cells of a row's text columns that are read as this text."""
    return dict(zip(columns.texts, split_pair(text) or (text,), strict=False))


def check_columns(path: Path, found: Sequence[str], columns: Columns, *, labeled: bool = True, delimiter: str = "") -> None:
    """Check that a table has each of the columns once.

    Raises:
        DataError: a column is missing (the message lists those of the table) or repeated, or has two roles.
    """
    refuse_shared(path, found, columns, labeled=labeled)
    shown = ", ".join(found[:_SHOWN]) + (f", ... ({len(found)})" if len(found) > _SHOWN else "")
    texts = [(columns.text, named_text(found)), *((name, None) for name in columns.texts[1:])]
    for column, likely in [*texts, (columns.label, named_label(found))] if labeled else texts:
        if column not in found:
            guess = f"did you mean '{likely}'?" if likely else nearest(column, found)
            where = "in task.yaml: data.columns" if labeled else "of the text with --text, or in task.yaml: data.columns.text"
            remedy = f"{guess} Name the column{'s' * labeled} {where}".strip()
            if len(found) == 1 and delimiter:
                remedy += f"; or the delimiter, if it is not {delimiter!r}: {'' if labeled else '--delimiter or '}data.delimiter"
            raise DataError(f"{path}: no column '{column}'", known=f"columns there: {shown}", remedy=remedy)
        if found.count(column) > 1:
            raise DataError(f"{path}: two columns are named '{column}'", known=f"columns there: {shown}", remedy="rename one")


def refuse_shared(path: Path, found: Collection[str], columns: Columns, *, labeled: bool) -> None:
    """Check that no column has two roles, such as text and label: the model would read its own target.

    Raises:
        DataError: a column has two roles.
    """
    named = {"text": columns.text, "pair": columns.pair, "label": columns.label if labeled else None, "weight": columns.weight}
    roles: dict[str, str] = {}
    for role, name in named.items():
        if name is None:
            continue
        parts = parts_of(name)
        for column in parts if {*parts} <= {*found} else (name,):
            if (other := roles.setdefault(column, role)) != role:
                raise DataError(
                    f"{path}: the column '{column}' is named as {other} and as {role}",
                    known=f"columns there: {', '.join(list(found)[:_SHOWN])}",
                    remedy=f"name another as {role}: data.columns.{role} in task.yaml, or --{role}-column",
                )


def guess_text(columns: Sequence[str], rows: Sequence[Mapping[str, str]], *, taken: Collection[str | None]) -> str | None:
    """Return the likely text column: by name, else the one with the longest and most varied values."""
    others = [column for column in columns if column and column not in taken]
    if name := named_text([column for column in others if _distinct(column, rows)]) or named_text(others):
        return name
    lengths = {column: fmean(len(row.get(column, "")) for row in rows) * _distinct(column, rows) for column in others if rows}
    best = max(lengths, key=lambda column: lengths[column], default=None)
    return best if best is not None and lengths[best] > 0 else None


def guess_label(columns: Sequence[str], rows: Sequence[Mapping[str, str]], *, taken: Collection[str | None]) -> str | None:
    """Return the likely label column: by name, else the one with the fewest values, from 2 to half the number of rows.

    A column with one value everywhere is only taken if there is no other.
    """
    kinds = {column: round(_distinct(column, rows) * len(rows)) for column in columns if column and column not in taken}
    others = [column for column, values in kinds.items() if values > 1]
    if name := named_label(others):
        return name
    short = [column for column in others if fmean(len(row.get(column, "")) for row in rows) <= _LONGEST_LABEL]
    likely = [column for column in short if kinds[column] <= len(rows) / 2]
    return min(likely, key=lambda column: kinds[column]) if likely else named_label(kinds)


def guess_id(columns: Sequence[str], rows: Sequence[Mapping[str, str]], *, taken: Collection[str | None]) -> str | None:
    """Return the likely id column: its values are short and all differ, and it has the name of an id or stands first."""
    fitting = [
        column
        for column in columns
        if column and column not in taken and rows and _distinct(column, rows) == 1
        and all(0 < len(value := row.get(column, "")) <= _LONGEST_ID and not any(map(str.isspace, value)) for row in rows)
    ]  # fmt: skip
    named = [column for column in fitting if _ID_NAME.fullmatch(column.strip())]
    return next(iter((*named, *(column for column in fitting if column == columns[0]))), None)


def yes_no_columns(columns: Sequence[str], rows: Sequence[Mapping[str, str]], *, taken: Collection[str | None]) -> list[str]:
    """Return the columns with exactly 0 and 1, or true and false; if there are two, also those with only 0 or false."""
    values = {column: {row.get(column, "") for row in rows} - {""} for column in columns if column and column not in taken}
    both = [column for column, cells in values.items() if cells in _YES_NO]
    if len(both) < 2:
        return both
    return [column for column, cells in values.items() if cells in (*_YES_NO, *_NO)]


def _distinct(column: str, rows: Sequence[Mapping[str, str]]) -> float:
    """Return the number of different values of a column, as a share of the rows."""
    return len({value for row in rows if (value := row.get(column, ""))}) / max(1, len(rows))
