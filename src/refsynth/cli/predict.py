"""`refsynth predict`: label the rows of a file, as a table or as one JSON object per row."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from refsynth.cli.opening import (
    Bundle,
    Delimiter,
    Encoding,
    PairColumn,
    Sheet,
    TextColumn,
    Threads,
    Threshold,
    open_bundle,
    open_file,
    run_of,
)
from refsynth.cli.screen import command, counter, discard_output, err, out
from refsynth.core.errors import DataError, InputError, counted

if TYPE_CHECKING:
    from refsynth.bundle import Model
    from refsynth.bundle.model import Answered
    from refsynth.core.types import IntArray, Prediction
    from refsynth.data.row_reader import Spans
    from refsynth.data.rows import BadRow, Reading, Row

CHUNK = 256  # rows: enough to batch texts of similar length, few enough to answer soon


def predict(
    bundle: Bundle,
    file: Annotated[str, Argument(help="CSV, TSV, JSONL, Parquet, Excel, or one text per line; - is standard input.")] = "-",
    target: Annotated[Path | None, Option("--out", help="The table to write: .csv, .tsv, .xlsx, .parquet or .jsonl.")] = None,
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    threads: Threads = 0,
    threshold: Threshold = None,
) -> None:
    """Label the rows of a file.

    With --out, write a table: all columns of the file, plus the label, its confidence and whether the model is unsure. All rows
    keep their order, unreadable ones too, which NAME.errors.csv lists. A new column is called predicted_label and so on if the
    file has a column of that name already. The column `none_of_these` marks texts that are unlike the training rows of all
    labels, if the bundle can tell. A multi-label bundle joins labels by |. A token-classification bundle writes `entities`.

    Without --out, print one JSON object per row on stdout, row by row and in constant memory: {"row", "label", "probabilities",
    "abstain", "tier"} and the row's own "id", or {"row", "error"} for a row that cannot be read. "tier" is the part of the bundle
    that answered: int8, safe, static or exact. "truncated" says that a part of the text was not read.

    A multi-label bundle gives "labels", a list, instead of "label". A token-classification bundle gives {"row", "entities",
    "abstain", "tier"}. Each entity has "start" and "end" (in characters of the text), "label", "confidence" and "text".

    Example: refsynth predict runs/tickets inbox.csv --out scored.csv
    """
    from refsynth.bundle.none import none_sentence
    from refsynth.bundle.unsure import unsure_sentence
    from refsynth.cli.scored import check_target

    if target is not None:
        check_target(file, target)
    model = open_bundle(bundle, threads=threads, threshold=threshold)
    spans: Spans = "ignored" if model.manifest.answers.words else "none"
    tally = PredictionTally()
    with open_file(
        model, file, text=text_column, pair=pair_column, delimiter=delimiter, encoding=encoding, sheet=sheet, spans=spans
    ) as reading:
        if target is None:
            _stream(model, reading, tally)
        else:
            _write(model, reading, tally, file, target)
            if tally.unsure and not model.manifest.answers.words and (run := run_of(bundle)) is not None:
                out.print(f"label the unsure ones: {command('label', 'next', target, '--run', run)}", markup=False)
    if rule := unsure_sentence(model.manifest, threshold):
        err.print(rule, markup=False)
    if model.tells_none:
        err.print(none_sentence(model.manifest), markup=False)
    warn_shift(model, tally.profile, tally.predicted)


def _stream(model: Model, reading: Reading, tally: PredictionTally) -> None:
    started = time.monotonic()
    try:
        for record in records(model, reading.rows, tally):
            sys.stdout.write(json.dumps(record, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    except OSError as error:
        discard_output(sys.stdout)
        if isinstance(error, BrokenPipeError):  # the reader needs no more
            return
        raise InputError(
            f"standard output: cannot be written ({error.strerror})", remedy="free some space, or name a file with --out"
        ) from error
    rate = tally.rows / max(time.monotonic() - started, 1e-9)
    err.print(f"{counted(tally.rows, 'row')}: {tally.describe()}   {rate:,.0f} rows/s", markup=False)


def _write(model: Model, reading: Reading, tally: PredictionTally, file: str, target: Path) -> None:
    """Write the table and the list of unreadable rows, and print a summary of both."""
    from refsynth.cli.files import writing
    from refsynth.cli.scored import errors_file, keeping_errors, names_for, scored_row, style_of
    from refsynth.data.rows import BadRow
    from refsynth.data.typed import typed
    from refsynth.data.write import write_table

    names, listed = names_for(reading.heads, spans=model.manifest.answers.words, none=model.tells_none), errors_file(target)
    columns = (*reading.heads, *names) if reading.fixed else None
    excel = reading.format == "excel" and target.suffix.lower() == ".xlsx"
    with keeping_errors() as errors, writing(target), counter("rows") as count:

        def rows() -> Iterator[dict[str, Any]]:
            for row, answer in answered(model, reading.rows, tally):
                if isinstance(row, BadRow):
                    errors.add(row)
                count(tally.rows)
                yield scored_row(row._replace(values=typed(row.values)) if excel else row, answer, names)
            if errors.first is not None and not tally.predicted:
                why = f"row {errors.first.number}: {errors.first.message}"
                raise DataError(
                    f"{file}: none of {counted(tally.rows, 'row')} can be read; {why}",
                    remedy="correct the file, or name the column of the text with --text",
                )

        write_table(target, columns, rows(), style=style_of(reading, file, target, model.labels))
        errors.write(listed)
    out.print(
        f"{'standard input' if file == '-' else file}: {counted(tally.rows, 'row')}, {_text_columns(reading, model)}",
        markup=False,
    )
    width = f"your {counted(len(reading.heads), 'column')}" if reading.fixed else "your columns"
    none = f", {tally.none:,} none of these" if tally.none else ""
    bad = f", {counted(errors.count, 'row')} could not be read (listed in {listed})" if errors.count else ""
    out.print(f"{target}: {width} + {', '.join(names)}      {tally.unsure:,} unsure{none}{tally.truncation()}{bad}", markup=False)


def _text_columns(reading: Reading, model: Model) -> str:
    """Return which columns the text was taken from, and whether they are those of training."""
    if reading.format == "text":
        return "one text per line"
    names, known = reading.taken.texts, model.manifest.columns.texts
    training = " (as in training)" if names == known else f" (in training: {', '.join(known)})"
    return f"column{'s' * (len(names) > 1)} {', '.join(names)}{training}"


@dataclass
class PredictionTally:
    """Counts of the rows, by what became of them."""

    predicted: int = 0
    unsure: int = 0
    none: int = 0
    unreadable: int = 0
    truncated: int = 0
    profile: IntArray | None = None

    def count(self, texts: Sequence[str], found: Answered) -> None:
        """Add to the profile: how confident the first tier was about some texts, and how long they are."""
        from refsynth.bundle.certificate import profile_of

        self.profile = profile_of(found.exit_confidence, texts) + (0 if self.profile is None else self.profile)

    @property
    def rows(self) -> int:
        """The number of all rows."""
        return self.predicted + self.unreadable

    def describe(self) -> str:
        """Return e.g. `98 predicted (3 unsure), 2 unreadable`."""
        groups = ((self.unsure, "unsure"), (self.none, "none of these"))
        listed = ", ".join(f"{n:,} {name}" for n, name in groups if n)
        unreadable = f", {self.unreadable:,} unreadable" if self.unreadable else ""
        return f"{self.predicted:,} predicted{f' ({listed})' if listed else ''}{self.truncation()}{unreadable}"

    def truncation(self) -> str:
        """Return e.g. `, 3 not read to the end`; empty if all texts were read whole."""
        return f", {self.truncated:,} not read to the end" if self.truncated else ""


def warn_shift(model: Model, profile: IntArray | None, n: int) -> None:
    """Warn if the texts are unlike those that the certificate of a cascade was made with."""
    early = model.manifest.tiers[0].early
    if early is not None and profile is not None and early.certificate.shifted(profile, n):
        err.print(
            "warning: these texts are longer or shorter than those that the static tier was certified on, or its confidence in "
            "them differs. They come from another distribution, so the certificate (at most "
            f"{early.certificate.alpha:.1%} answered otherwise than by the model alone) does not hold for them. "
            "Run the task again with such texts in data.pool.",
            markup=False,
        )


def chunks(rows: Iterable[Row | BadRow]) -> Iterator[list[Row | BadRow]]:
    """Yield the rows in lists of at most `CHUNK`."""
    stream = iter(rows)
    while chunk := list(islice(stream, CHUNK)):
        yield chunk


def answered(
    model: Model, rows: Iterable[Row | BadRow], tally: PredictionTally
) -> Iterator[tuple[Row | BadRow, Prediction | None]]:
    """Yield each row in order with its prediction, None if the row cannot be read; predict a chunk at a time."""
    from refsynth.data.rows import Row

    for chunk in chunks(rows):
        texts = [row.text for row in chunk if isinstance(row, Row)]
        found = model.answer(texts)
        tally.count(texts, found)
        answers = iter(model.predictions(texts, found))
        for row in chunk:
            answer = next(answers) if isinstance(row, Row) else None
            tally.unreadable += answer is None
            tally.predicted += answer is not None
            tally.unsure += answer is not None and answer.abstain
            tally.none += answer is not None and answer.none
            tally.truncated += answer is not None and answer.truncated
            yield row, answer


def records(model: Model, rows: Iterable[Row | BadRow], tally: PredictionTally) -> Iterator[dict[str, Any]]:
    """Yield the JSON object of each row in order."""
    from refsynth.data.rows import Row

    for row, answer in answered(model, rows, tally):
        if answer is None or not isinstance(row, Row):
            yield {"row": row.number, "error": getattr(row, "message", "")}
            continue
        yield {
            "row": row.number,
            **({} if row.id is None else {"id": row.id}),
            **_answer(answer, row.text),
            "abstain": answer.abstain,
            **({"none": answer.none} if model.tells_none else {}),
            "tier": answer.tier,
            **({"truncated": True} if answer.truncated else {}),
        }


def _answer(answer: Prediction, text: str) -> dict[str, Any]:
    """Return the answer for a text as JSON-ready values: its label, its labels, or its entities with their texts."""
    from refsynth.core.types import DIGITS

    if answer.entities is not None:
        return {"entities": [{**one, "text": text[one["start"] : one["end"]]} for one in answer.said["entities"]]}
    return {**answer.said, "probabilities": {label: round(value, DIGITS) for label, value in answer.probabilities.items()}}
