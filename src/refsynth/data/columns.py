"""Which column holds what: by the names that the user gave, and, for a first look, by likely names and by the values."""

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
    """Return the column whose name says that it holds the text."""
    return _named(columns, _TEXT_NAMES.split())


def named_label(columns: Collection[str]) -> str | None:
    """Return the column whose name says that it holds the label."""
    return _named(columns, _LABEL_NAMES.split())


def _named(columns: Collection[str], names: Sequence[str]) -> str | None:
    known: dict[str, str] = {}
    for column in columns:
        known.setdefault(column.strip().casefold(), column)
    known |= {column: column for column in columns}  # a name as it is comes before one in other case
    return next((known[name] for name in names if name in known), None)


def own_id(values: Mapping[str, Any], columns: Columns) -> Any:
    """Return what the user calls a row, as the file has it; None where nothing says it. The usual name may have any case."""
    name = columns.id
    if name is None:
        name = "id" if "id" in values else next((key for key in values if key.strip().casefold() == "id"), "id")
    return values.get(name)


def text_fields(text: str, columns: Columns) -> dict[str, str]:
    """Return what a row holds in its text columns, so that reading it gives the text again."""
    return dict(zip(columns.texts, split_pair(text) or (text,), strict=False))


def check_columns(path: Path, found: Sequence[str], wanted: Columns, *, labelled: bool = True, delimiter: str = "") -> None:
    """Refuse a table that lacks a wanted column or has it twice.

    Raises:
        DataError: it does, the message lists what is there; or one column is wanted as two.
    """
    refuse_shared(path, found, wanted, labelled=labelled)
    shown = ", ".join(found[:_SHOWN]) + (f", ... ({len(found)})" if len(found) > _SHOWN else "")
    texts = [(wanted.text, named_text(found)), *((name, None) for name in wanted.texts[1:])]
    for column, likely in [*texts, (wanted.label, named_label(found))] if labelled else texts:
        if column not in found:
            guess = f"did you mean '{likely}'?" if likely else nearest(column, found)
            where = "in task.yaml: data.columns" if labelled else "of the text with --text, or in task.yaml: data.columns.text"
            remedy = f"{guess} Name the column{'s' * labelled} {where}".strip()
            if len(found) == 1 and delimiter:
                remedy += f"; or the delimiter, if it is not {delimiter!r}: {'' if labelled else '--delimiter or '}data.delimiter"
            raise DataError(f"{path}: no column '{column}'", known=f"columns there: {shown}", remedy=remedy)
        if found.count(column) > 1:
            raise DataError(f"{path}: two columns are named '{column}'", known=f"columns there: {shown}", remedy="rename one")


def refuse_shared(path: Path, found: Collection[str], wanted: Columns, *, labelled: bool) -> None:
    """Refuse a column that is to be two things, such as text and label: the model would read its own answer.

    Raises:
        DataError: one is.
    """
    named = {"text": wanted.text, "pair": wanted.pair, "label": wanted.label if labelled else None, "weight": wanted.weight}
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
    """Return the likely text column: by name, else the one with the longest values among those that hardly repeat."""
    others = [column for column in columns if column and column not in taken]
    if name := named_text([column for column in others if _distinct(column, rows)]) or named_text(others):
        return name
    lengths = {column: fmean(len(row.get(column, "")) for row in rows) * _distinct(column, rows) for column in others if rows}
    best = max(lengths, key=lambda column: lengths[column], default=None)
    return best if best is not None and lengths[best] > 0 else None


def guess_label(columns: Sequence[str], rows: Sequence[Mapping[str, str]], *, taken: Collection[str | None]) -> str | None:
    """Return the likely label column: by name, else the one with the fewest values, from 2 to half as many as there are rows.

    A column with the same value everywhere tells nothing apart: whatever its name, any other comes before it.
    """
    kinds = {column: round(_distinct(column, rows) * len(rows)) for column in columns if column and column not in taken}
    others = [column for column, values in kinds.items() if values > 1]
    if name := named_label(others):
        return name
    short = [column for column in others if fmean(len(row.get(column, "")) for row in rows) <= _LONGEST_LABEL]
    likely = [column for column in short if kinds[column] <= len(rows) / 2]
    return min(likely, key=lambda column: kinds[column]) if likely else named_label(kinds)


def guess_id(columns: Sequence[str], rows: Sequence[Mapping[str, str]], *, taken: Collection[str | None]) -> str | None:
    """Return the likely column of what the user calls a row: its short values all differ, and its name or first place says so."""
    fitting = [
        column
        for column in columns
        if column and column not in taken and rows and _distinct(column, rows) == 1
        and all(0 < len(value := row.get(column, "")) <= _LONGEST_ID and not any(map(str.isspace, value)) for row in rows)
    ]  # fmt: skip
    named = [column for column in fitting if _ID_NAME.fullmatch(column.strip())]
    return next(iter((*named, *(column for column in fitting if column == columns[0]))), None)


def yes_no_columns(columns: Sequence[str], rows: Sequence[Mapping[str, str]], *, taken: Collection[str | None]) -> list[str]:
    """Return the columns that have just 0 and 1, or true and false; where two have both, those with 0 or false only too."""
    found = {column: {row.get(column, "") for row in rows} - {""} for column in columns if column and column not in taken}
    both = [column for column, values in found.items() if values in _YES_NO]
    if len(both) < 2:
        return both
    return [column for column, values in found.items() if values in (*_YES_NO, *_NO)]


def _distinct(column: str, rows: Sequence[Mapping[str, str]]) -> float:
    """Return how many different values a column has, as a share of the rows."""
    return len({value for row in rows if (value := row.get(column, ""))}) / max(1, len(rows))
