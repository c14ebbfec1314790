"""`refsynth predict`: rows in, one JSON object a row out, as they come."""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refsynth.cli.screen import err
from refsynth.core.config import PAIR_COLUMN
from refsynth.core.errors import InputError, counted
from refsynth.core.sections import Columns

if TYPE_CHECKING:
    from refsynth.bundle import Model
    from refsynth.bundle.model import Answered
    from refsynth.core.types import IntArray, Prediction
    from refsynth.data.io import BadRow, Row, Spans

CHUNK = 256  # rows: enough for batches of like length, few enough to answer soon
DIGITS = 6
PAIR_HELP = f"Column of the second text, for a bundle of pairs; {PAIR_COLUMN} if left out."


def predict(
    bundle: Annotated[Path, typer.Argument(help="A bundle: the folder `bundle` of a run.")],
    file: Annotated[
        str, typer.Argument(help="CSV, TSV, JSONL, Parquet or plain text, one text a line; - is standard input.")
    ] = "-",
    text_column: Annotated[str, typer.Option("--text", help="Column of the text.")] = "text",
    pair_column: Annotated[str | None, typer.Option("--pair", help=PAIR_HELP)] = None,
    delimiter: Annotated[str | None, typer.Option(help="Field delimiter of a CSV file; detected if left out.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Text encoding; detected if left out.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads to compute with; 0: one per core.")] = 0,
) -> None:
    """Label texts: one JSON object a row on stdout, in the order of the input, with constant memory.

    A row that cannot be read gives {"row", "error"}; the others {"row", "label", "probabilities", "abstain", "tier"} and
    their own "id"; "tier" is what answered: int8, safe, static or exact. "truncated" says that a part of the text was not read.
    Of a bundle that gives a text any number of labels it is "labels", a list; of one that labels words it is {"row", "entities",
    "abstain", "tier"}, each entity with "start", "end" (characters of the text), "label", "confidence" and its "text".

    Example: refsynth predict runs/tickets/bundle new.csv --text message > labels.jsonl
    """
    model = open_bundle(bundle, threads=threads)
    tally = Tally()
    columns = Columns(text=text_column, pair=pair_of(model, pair_column))
    spans: Spans = "ignored" if model.manifest.answers.spans else "none"
    rows = read_rows(file, columns=columns, delimiter=delimiter, encoding=encoding, spans=spans)
    started = time.monotonic()
    try:
        for record in records(model, rows, tally):
            sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has what it wants; what is still buffered must not be flushed to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    rate = tally.rows / max(time.monotonic() - started, 1e-9)
    err.print(f"{counted(tally.rows, 'row')}: {tally.describe()}   {rate:,.0f} rows/s", markup=False)
    warn_shift(model, tally.profile, tally.predicted)


@dataclass
class Tally:
    """What became of the rows."""

    predicted: int = 0
    unsure: int = 0
    unreadable: int = 0
    truncated: int = 0
    profile: IntArray | None = None

    def count(self, texts: Sequence[str], found: Answered) -> None:
        """Add how sure the first tier was of some texts, and how long they are."""
        from refsynth.bundle.certificate import profile_of

        self.profile = profile_of(found.sure, texts) + (0 if self.profile is None else self.profile)

    @property
    def rows(self) -> int:
        """All rows."""
        return self.predicted + self.unreadable

    def describe(self) -> str:
        """Return e.g. `98 predicted (3 unsure), 2 unreadable`."""
        unsure = f" ({self.unsure:,} unsure)" if self.unsure else ""
        cut = f", {self.truncated:,} not read to the end" if self.truncated else ""
        return f"{self.predicted:,} predicted{unsure}{cut}" + (f", {self.unreadable:,} unreadable" if self.unreadable else "")


def open_bundle(folder: Path, *, threads: int) -> Model:
    """Load a bundle, with its warnings as lines for a person."""
    from refsynth.bundle import load

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = load(folder, threads=threads)
    for warning in caught:
        err.print(f"warning: {warning.message}", markup=False)
    return model


def pair_of(model: Model, wanted: str | None) -> str | None:
    """Return the column of the second text; None where the bundle takes single texts.

    Raises:
        InputError: one is named for a bundle that takes single texts.
    """
    if model.manifest.task == "pairs":
        return wanted or PAIR_COLUMN
    if wanted is not None:
        raise InputError(f"--pair {wanted}: the bundle labels single texts", remedy="leave --pair out")
    return None


def warn_shift(model: Model, profile: IntArray | None, n: int) -> None:
    """Say so where texts are unlike those that the certificate of a cascade was made with."""
    first = model.manifest.first
    if first is not None and profile is not None and first.certificate.shifted(profile, n):
        found = first.certificate
        err.print(
            "warning: these texts are longer or shorter than those that the static tier was certified on, or it is not as sure "
            f"of them: they are drawn otherwise, and the certificate (at most {found.alpha:.1%} answered otherwise than by the "
            "model alone) does not hold for them. Run the task again with such texts in data.pool.",
            markup=False,
        )


def read_rows(
    file: str,
    *,
    columns: Columns,
    delimiter: str | None,
    encoding: str | None,
    separator: str | None = None,
    spans: Spans = "none",
) -> Iterator[Row | BadRow]:
    """Return the rows of a file, or of standard input where its name is `-`."""
    from refsynth.data.io import iter_rows

    source = sys.stdin.buffer if file == "-" else Path(file)
    return iter_rows(source, columns=columns, delimiter=delimiter, encoding=encoding, separator=separator, spans=spans)


def records(model: Model, rows: Iterable[Row | BadRow], tally: Tally) -> Iterator[dict[str, Any]]:
    """Yield the output of each row in order, predicting a chunk at a time."""
    for chunk in chunks(rows):
        yield from _chunk_records(model, chunk, tally)


def chunks(rows: Iterable[Row | BadRow]) -> Iterator[list[Row | BadRow]]:
    """Yield the rows in lists of at most `CHUNK`."""
    stream = iter(rows)
    while chunk := list(islice(stream, CHUNK)):
        yield chunk


def _chunk_records(model: Model, chunk: Sequence[Row | BadRow], tally: Tally) -> Iterator[dict[str, Any]]:
    from refsynth.data.io import Row

    texts = [row.text for row in chunk if isinstance(row, Row)]
    found = model.answer(texts)
    tally.count(texts, found)
    answers = iter(model.told(texts, found))
    for row in chunk:
        if not isinstance(row, Row):
            tally.unreadable += 1
            yield {"row": row.number, "error": row.message}
            continue
        answer = next(answers)
        tally.predicted += 1
        tally.unsure += answer.abstain
        tally.truncated += answer.truncated
        yield {
            "row": row.number,
            **({} if row.id is None else {"id": row.id}),
            **_said(answer, row.text),
            "abstain": answer.abstain,
            "tier": answer.tier,
            **({"truncated": True} if answer.truncated else {}),
        }


def _said(answer: Prediction, text: str) -> dict[str, Any]:
    """Return what was said of a text: its label, its labels, or what was found in it."""
    if answer.entities is not None:
        found = [{**entity._asdict(), "confidence": round(entity.confidence, DIGITS)} for entity in answer.entities]
        return {"entities": [{**entity, "text": text[entity["start"] : entity["end"]]} for entity in found]}
    shown = {"label": answer.label} if answer.labels is None else {"labels": list(answer.labels)}
    return {**shown, "probabilities": {label: round(value, DIGITS) for label, value in answer.probabilities.items()}}
