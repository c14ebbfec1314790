"""Forms to be filled in by a person: the rows of the user's file, an empty label, and the possible labels.

A model's predictions are left out, since people follow suggestions. Texts that come back without a label are remembered, as
hashes, and not asked for again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from refsynth.core.errors import InputError
from refsynth.core.files import read_jsonl, write_jsonl
from refsynth.core.hashes import digest
from refsynth.core.sections import Columns
from refsynth.data.columns import own_id, text_fields
from refsynth.data.rows import Reading, Row
from refsynth.data.table import distinct
from refsynth.data.text import normalize
from refsynth.data.typed import typed
from refsynth.data.write import Style, write_table

SUFFIXES = (".csv", ".tsv", ".xlsx", ".jsonl")
CHOICES, REASON = "choices", "reason"
SKIPS = "skips.jsonl"

_SCORED = re.compile(r"predicted_(label|confidence|unsure|none_of_these)(_\d+)?")
_YES = ("true", "1", "yes")


def check_forms(path: Path) -> None:
    """Check that a form can be written to a file.

    Raises:
        InputError: the file exists, and a person may be filling it in; or the suffix is unknown.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: cannot be written", expected=f"a name that ends in {', '.join(SUFFIXES)}")
    if path.exists():
        raise InputError(f"{path}: is there already, perhaps half filled in", remedy="name another with --out")


class Scores(NamedTuple):
    """The columns that `predict --out` added to a file, and the column that tells whether the model is unsure."""

    added: frozenset[str]
    unsure: str

    @classmethod
    def of(cls, names: Iterable[str]) -> Scores | None:
        """Return the columns of a scored file; None for another file."""
        columns = list(names)
        prefixed = [name for name in columns if _SCORED.fullmatch(name)]
        bare = {"confidence", "unsure", "none_of_these"} & {*columns}
        unsure = [name for name in columns if name == "unsure" or name.startswith("predicted_unsure")]
        if not unsure or not any("confidence" in name for name in (*prefixed, *bare)):
            return None
        label = {"label"} if not any(name.startswith("predicted_label") for name in prefixed) else set[str]()
        return cls(frozenset({*prefixed, *bare, *label}), unsure[-1])

    def chosen(self, rows: Sequence[Row]) -> list[Row]:
        """Return the rows on which the model is unsure."""
        return [row for row in rows if str(row.values.get(self.unsure)).strip().casefold() in _YES]


class LabelForm(NamedTuple):
    """The layout of a form.

    Attributes:
        labels: the labels that may be filled in.
        heads: the column names of the user's file.
        hidden: its columns that are left out.
        several: whether a text may have any number of labels.
        form: the format of the user's file: `text` has no column name, and cells of `excel` have types.
        times: how often a text stands in the user's file, by `key_of`; once if it is missing here.
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

    def fill(self, row: Row, *, why: str, score: float) -> dict[str, Any]:
        """Return a row of the form: the user's cells in their order, an empty label, the possible labels, and the reason."""
        own = {name: value for name, value in row.values.items() if name not in self.hidden}
        if self.form == "excel":
            own = typed(own)
        if self.form == "text":
            own = dict(text_fields(row.text, self.columns))
        first = {} if own_id(own, self.columns) is not None else {"id": row.id or f"pool-{row.number}"}
        added: dict[str, Any] = {CHOICES: " | ".join(self.labels), REASON: why, "score": round(score, 4)}
        if any(times > 1 for times in self.times.values()):
            added["times"] = self.times.get(key_of(row.text), 1)
        names = distinct(list(added), {name.casefold() for name in (*own, self.columns.label)})
        return first | own | {self.columns.label: ""} | dict(zip(names, added.values(), strict=True))

    def write(self, path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows in the format of the suffix; Excel offers the labels as a drop-down list.

        Raises:
            InputError: the file exists or cannot be written.
        """
        check_forms(path)
        choices = None if self.several else (self.columns.label, self.labels)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_table(path, None, rows, style=self.style._replace(choices=choices))
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror})", remedy="name another with --out") from error


def is_form(names: Iterable[str]) -> bool:
    """Return whether a file with these columns is a form."""
    return {CHOICES, REASON} <= {*names}


def key_of(text: str) -> str:
    """Return a hash by which a text can be recognized."""
    return digest(normalize(text))[:16]


def skips_of(folder: Path) -> set[str]:
    """Return the hashes, see `key_of`, of the texts that a person left without a label."""
    return {str(key) for key in read_jsonl(folder / SKIPS)} if (folder / SKIPS).is_file() else set()


def remember_skips(folder: Path, texts: Iterable[str]) -> int:
    """Store the hashes of texts that were left without a label, and return their number."""
    keys = {key_of(text) for text in texts}
    if keys:
        folder.mkdir(exist_ok=True)
        write_jsonl(folder / SKIPS, sorted(keys | skips_of(folder)))
    return len(keys)
