"""Rows to be filled in by a person: all that the user's file says of them, an empty label, and which labels there are.

What a model said of them is left out: who sees a suggestion follows it. Texts that came back without a label are remembered, as
hashes, and not asked for again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from refsynth.core.errors import InputError
from refsynth.core.run import digest, read_jsonl, write_jsonl
from refsynth.core.sections import Columns
from refsynth.data.columns import own_id, text_fields
from refsynth.data.rows import Reading, Row
from refsynth.data.table import distinct
from refsynth.data.text import normalise
from refsynth.data.typed import typed
from refsynth.data.write import Style, write_table

SUFFIXES = (".csv", ".tsv", ".xlsx", ".jsonl")
CHOICES, REASON = "choices", "reason"
SKIPS = "skips.jsonl"

_SCORED = re.compile(r"predicted_(label|confidence|unsure|none_of_these)(_\d+)?")
_YES = ("true", "1", "yes")


def check_forms(path: Path) -> None:
    """See that rows to be filled in can be written to a file of this name.

    Raises:
        InputError: a file is there already, which a person may be filling in, or the suffix is not known.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: cannot be written", expected=f"a name that ends in {', '.join(SUFFIXES)}")
    if path.exists():
        raise InputError(f"{path}: is there already, perhaps half filled in", remedy="name another with --out")


class Scores(NamedTuple):
    """Of a file that `predict --out` wrote: the columns that it added, and the one that says whether the model is unsure."""

    added: frozenset[str]
    unsure: str

    @classmethod
    def of(cls, names: Iterable[str]) -> Scores | None:
        """Return them; None for another file."""
        there = list(names)
        later = [name for name in there if _SCORED.fullmatch(name)]
        first = {"confidence", "unsure", "none_of_these"} & {*there}
        unsure = [name for name in there if name == "unsure" or name.startswith("predicted_unsure")]
        if not unsure or not any("confidence" in name for name in (*later, *first)):
            return None
        own = {"label"} if not any(name.startswith("predicted_label") for name in later) else set[str]()
        return cls(frozenset({*later, *first, *own}), unsure[-1])

    def chosen(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows of which the model is unsure."""
        return [row for row in rows if str(row.values.get(self.unsure)).strip().casefold() in _YES]


class LabelForm(NamedTuple):
    """How rows are laid out.

    Attributes:
        columns: of the task.
        labels: that may be filled in.
        heads: of the user's file.
        hidden: columns of it that are left out.
        style: how the user's file looks.
        several: whether a text may have any number of labels.
        times: how often the user's file has a text, by `key_of`; once where it is not there.
        form: of the user's file: `text` is one text a line without a name for it, the cells of `excel` have types.
    """

    columns: Columns
    labels: Sequence[str]
    heads: Mapping[str, str]
    hidden: frozenset[str]
    style: Style
    several: bool
    form: str
    times: Mapping[str, int] = {}

    @classmethod
    def of(cls, reading: Reading, columns: Columns, labels: Sequence[str], *, several: bool) -> LabelForm:
        """Return the form for the rows of a file."""
        scores = Scores.of(reading.heads)
        style = Style(reading.heads, reading.delimiter or ",")
        hidden = scores.added if scores else frozenset[str]()
        return cls(columns, labels, reading.heads, hidden - {*columns.texts}, style, several, reading.format)

    def counting(self, times: Mapping[str, int]) -> LabelForm:
        """Return the form for texts of which some come more than once."""
        return self._replace(times=times)

    def fill(self, row: Row, *, why: str, score: float) -> dict[str, Any]:
        """Return a row of the form: the user's cells in their order, an empty label, and what is asked for and why."""
        own = {name: value for name, value in row.values.items() if name not in self.hidden}
        if self.form == "excel":
            own = typed(own)
        if self.form == "text":
            own = dict(text_fields(row.text, self.columns))
        first = {} if own_id(own, self.columns) is not None else {"id": row.id or f"pool-{row.number}"}
        said: dict[str, Any] = {CHOICES: " | ".join(self.labels), REASON: why, "score": round(score, 4)}
        if any(times > 1 for times in self.times.values()):
            said["times"] = self.times.get(key_of(row.text), 1)
        names = distinct(list(said), {name.casefold() for name in (*own, self.columns.label)})
        return first | own | {self.columns.label: ""} | dict(zip(names, said.values(), strict=True))

    def write(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows, by the suffix; in Excel the label is chosen from a list.

        Raises:
            InputError: the file cannot be written, for one because it is there already.
        """
        check_forms(path)
        choices = None if self.several else (self.columns.label, self.labels)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_table(path, None, rows, style=self.style._replace(choices=choices))
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})", remedy="name another with --out") from error


def is_form(names: Iterable[str]) -> bool:
    """Return whether a file with these columns is one that was to be filled in."""
    return {CHOICES, REASON} <= {*names}


def key_of(text: str) -> str:
    """Return what stands for a text where it is only to be known again."""
    return digest(normalise(text))[:16]


def skips_of(folder: Path) -> set[str]:
    """Return the texts, as `key_of` has them, that a person left without a label."""
    return {str(key) for key in read_jsonl(folder / SKIPS)} if (folder / SKIPS).is_file() else set()


def remember_skips(folder: Path, texts: Iterable[str]) -> int:
    """Keep texts that were left without a label, and return how many these are."""
    keys = {key_of(text) for text in texts}
    if keys:
        folder.mkdir(exist_ok=True)
        write_jsonl(folder / SKIPS, sorted(keys | skips_of(folder)))
    return len(keys)
