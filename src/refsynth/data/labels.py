"""Reads the cells of the label column as one label or a set of labels, and matches them to the task's labels."""

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
from refsynth.data.text import clean, normalize

_LISTS = {"[": "]", "(": ")", "{": "}"}  # brackets of a list or mapping that was printed into a cell
_LONGEST = 10_000  # characters of such a cell
_ARRAY = re.compile(r"""\[\s*(?:'[^']*'|"[^"]*")(?:\s+(?:'[^']*'|"[^"]*"))+\s*\]""")  # printed by NumPy, without commas
_IN_ARRAY = re.compile(r"""'([^']*)'|"([^"]*)\"""")


def as_label(value: Any) -> str | None:
    """Return a cell as a label: empty if the cell is, None if it cannot be a label."""
    if missing(value):
        return ""
    spelled = spell(value)
    return None if spelled is None else spell(clean(spelled)) or ""


def one_label(value: Any) -> str | None:
    """Return a cell, or the only item of a list, as a label: empty if there is none, None if it cannot be one label."""
    names = listed(value)
    if names is None:
        return as_label(value)
    return "" if not names else as_label(names[0]) if len(names) == 1 else None


def check_separator(separator: str | None) -> None:
    """Check a separator of labels.

    Raises:
        InputError: it is empty.
    """
    if separator == "":
        raise InputError("--separator: is empty", expected='what stands between the labels in a cell, such as "|" or ";"')


def as_labels(value: Any, separator: str) -> str | None:
    """Return a list, or the parts of a cell, as a set of labels: empty if the cell is, None if it cannot be one."""
    listing = listed(value)
    if listing is None:
        cell = as_label(value)
        parts = cell.split(separator) if cell and cell != NONE else []
        names = [as_label(part) for part in parts]
        return JOINER.join(dict.fromkeys(name for name in names if name)) or cell
    names = [as_label(name) for name in listing]
    return JOINER.join(dict.fromkeys(name for name in names if name)) or NONE if all(names) else None


def listed(value: Any) -> list[Any] | None:
    """Return the items of a list, also of one printed into a cell as JSON or by Python; None for anything else.

    A mapping of two or more names to booleans or scores from 0 to 1 counts as the list of names with a score of at least 0.5.
    """
    if isinstance(value, str):
        value = printed(value.strip(), longest=_LONGEST)
    if isinstance(value, Mapping):
        scores = [score for score in value.values() if isinstance(score, bool | int | float) and 0 <= score <= 1]
        return [name for name, score in value.items() if score >= 0.5] if len(value) == len(scores) > 1 else None
    return list(value) if isinstance(value, list | tuple | set | frozenset) else None


def printed(cell: str, *, longest: int) -> Any:
    """Return the list or mapping that was printed into a cell of at most `longest` characters, else None."""
    if not cell or _LISTS.get(cell[0]) != cell[-1] or len(cell) > longest:
        return None
    if _ARRAY.fullmatch(cell):
        return [single or double for single, double in _IN_ARRAY.findall(cell)]
    try:
        value = json.loads(cell)
    except (ValueError, RecursionError):
        value = _literal(cell)
    return sorted(value, key=str) if isinstance(value, set) else None if isinstance(value, str) else value


def _literal(cell: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on invalid escapes in texts that only look like Python
            return ast.literal_eval(cell)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


class Known:
    """Finds the task's labels by the spellings in a file: the same spelling, or another of the same value (`2.0` for `2`).

    With `merge`, names that differ only in case, spaces or Unicode form are one.
    """

    def __init__(self, labels: Iterable[str], *, merge: bool = False) -> None:
        self.labels = tuple(labels)
        self._merge = merge
        backwards = self.labels[::-1]  # the first of equal labels wins
        alike = {normalize(label): label for label in backwards} if merge else {}
        self._by_name = alike | {as_label(label): label for label in backwards} | {label: label for label in backwards}

    def find(self, name: str) -> str | None:
        """Return the task's label of that name, or None."""
        label = self._by_name.get(name)
        return self._by_name.get(normalize(name)) if label is None and self._merge else label

    def respell(self, label: str, *, several: bool) -> str:
        """Return a row's label or set of labels in the task's spelling; unknown names stay as they are."""
        names = split_labels(label) if several else (label,)
        return JOINER.join(self.find(name) or name for name in names) or label


def variants(labels: Collection[str]) -> list[tuple[str, ...]]:
    """Return the groups of labels that differ only in case, spaces or Unicode form."""
    alike: dict[str, list[str]] = defaultdict(list)
    for label in labels:
        alike[normalize(label)].append(label)
    return [tuple(group) for group in alike.values() if len(group) > 1]


def describe_variants(labels: Collection[str]) -> str | None:
    """Return a sentence about labels that may be meant as one; None if there are none."""
    groups = variants(labels)
    if not groups:
        return None
    shown = [" and ".join(f"'{label}'" for label in group) for group in groups[:6]] + ["..."] * (len(groups) > 6)
    similar = f"labels that differ only in case, spaces or Unicode form: {'; '.join(shown)}"
    return f"{similar}; init --merge, or data.merge: true, makes them one"
