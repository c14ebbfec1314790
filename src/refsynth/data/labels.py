"""What stands in the column of the label, as a label or as a set of labels, and which of the task's labels that is."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from refsynth.core.errors import InputError
from refsynth.core.labelset import JOINER, NONE, split_labels
from refsynth.core.value import missing, spell
from refsynth.data.text import clean, normalise

_LISTS = {"[": "]", "(": ")", "{": "}"}  # how a list or a mapping that was printed into a cell begins and ends
_LONGEST = 10_000  # characters of such a cell
_ARRAY = re.compile(r"""\[\s*(?:'[^']*'|"[^"]*")(?:\s+(?:'[^']*'|"[^"]*"))+\s*\]""")  # as NumPy prints: no commas
_IN_ARRAY = re.compile(r"""'([^']*)'|"([^"]*)\"""")


def as_label(value: Any) -> str | None:
    """Return a cell as a label: empty where nothing stands, None where it cannot be one."""
    if missing(value):
        return ""
    spelled = spell(value)
    if spelled is None:
        return None
    cleaned = clean(spelled)
    return spell(cleaned) or ""


def one_label(value: Any) -> str | None:
    """Return a cell as one label, as which a list of one counts: empty where nothing stands, None where it cannot be one."""
    names = listed(value)
    if names is None:
        return as_label(value)
    return "" if not names else as_label(names[0]) if len(names) == 1 else None


def check_separator(separator: str | None) -> None:
    """Refuse a separator that parts nothing.

    Raises:
        InputError: it is empty.
    """
    if separator == "":
        raise InputError("--separator: is empty", expected='what stands between the labels in a cell, such as "|" or ";"')


def as_labels(value: Any, separator: str) -> str | None:
    """Return a list, or the parts of a cell, as a set of labels: empty where nothing stands, None where it cannot be one."""
    listing = listed(value)
    if listing is None:
        cell = as_label(value)
        parts = cell.split(separator) if cell and cell != NONE else []
        names = [as_label(part) for part in parts]
        return JOINER.join(dict.fromkeys(name for name in names if name)) or cell
    names = [as_label(name) for name in listing]
    return JOINER.join(dict.fromkeys(name for name in names if name)) or NONE if all(names) else None


def listed(value: Any) -> list[Any] | None:
    """Return the items of a list, also of one that was printed into a cell as JSON or by Python; None of anything else.

    A mapping of two names or more to yes and no (or to scores from 0 to 1) lists those that are so.
    """
    if isinstance(value, str):
        value = printed(value.strip(), longest=_LONGEST)
    if isinstance(value, Mapping):
        return _said(value)
    return list(value) if isinstance(value, list | tuple | set | frozenset) else None


def _said(value: Mapping[Any, Any]) -> list[Any] | None:
    degrees = [each for each in value.values() if isinstance(each, bool | int | float) and 0 <= each <= 1]
    return [name for name, degree in value.items() if degree >= 0.5] if len(value) == len(degrees) > 1 else None


def printed(cell: str, *, longest: int) -> Any:
    """Return the list or mapping that a cell of at most `longest` characters spells out, else None."""
    if not cell or _LISTS.get(cell[0]) != cell[-1] or len(cell) > longest:
        return None
    if _ARRAY.fullmatch(cell):
        return [one or other for one, other in _IN_ARRAY.findall(cell)]
    try:
        found = json.loads(cell)
    except (ValueError, RecursionError):
        found = _literal(cell)
    return sorted(found, key=str) if isinstance(found, set) else found if not isinstance(found, str) else None


def _literal(cell: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in texts that only look like Python
            return ast.literal_eval(cell)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


class Known:
    """The task's labels, found by what a file has for them: the same spelling, or another of the same value.

    With `merge` names that differ only in case, spaces or Unicode form are one.
    """

    def __init__(self, labels: Iterable[str], *, merge: bool = False) -> None:
        self.labels = tuple(labels)
        self._merge = merge
        backwards = self.labels[::-1]
        alike = {normalise(label): label for label in backwards} if merge else {}
        self._by = alike | {as_label(label): label for label in backwards} | {label: label for label in backwards}

    def find(self, name: str) -> str | None:
        """Return the task's label of that name, or None."""
        found = self._by.get(name)
        return self._by.get(normalise(name)) if found is None and self._merge else found

    def answer(self, label: str, *, several: bool) -> str:
        """Return a row's label, or set of labels, with the task's names for what it holds; names that are none stay."""
        names = split_labels(label) if several else (label,)
        return JOINER.join(self.find(name) or name for name in names) or label


def variants(labels: Collection[str]) -> list[tuple[str, ...]]:
    """Return the groups of labels that differ only in case, spaces or Unicode form."""
    alike: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        alike[normalise(label)].append(label)
    return [tuple(group) for group in alike.values() if len(group) > 1]


def describe_variants(labels: Collection[str]) -> str | None:
    """Return a sentence about labels that may be meant as one; None where there are none."""
    groups = variants(labels)
    if not groups:
        return None
    shown = "; ".join(" and ".join(f"'{label}'" for label in group) for group in groups[:6]) + (
        "; ..." if len(groups) > 6 else ""
    )
    return f"labels that differ only in case, spaces or Unicode form: {shown}; init --merge, or data.merge: true, makes them one"
