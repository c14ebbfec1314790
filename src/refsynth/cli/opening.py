"""What the commands that use a bundle share: their options, and how a bundle and a file of rows are opened."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from refsynth.cli.screen import err
from refsynth.core.config import PAIR_COLUMN
from refsynth.core.errors import InputError
from refsynth.core.sections import Columns

if TYPE_CHECKING:
    from refsynth.bundle import Model
    from refsynth.data.row_reader import Spans
    from refsynth.data.rows import Reading

Bundle = Annotated[Path, Argument(help="A run folder, or the folder `bundle` in it.")]
TextColumn = Annotated[str | None, Option("--text", "--text-column", help="Column of the text; default: as in training.")]
PairColumn = Annotated[
    str | None,
    Option("--pair", "--pair-column", help="Column of the second text of pairs; default: as in training."),
]
Delimiter = Annotated[str | None, Option(help="Field delimiter of a CSV file; default: detected.")]
Sheet = Annotated[str | None, Option(help="Sheet of a workbook; default: the first that is not hidden.")]
Encoding = Annotated[str | None, Option(help="Text encoding of the file; default: detected.")]
Threads = Annotated[int, Option(min=0, help="Threads to compute with; 0: one per core.")]
Threshold = Annotated[
    float | None, Option(min=0, max=1, help="The model is unsure below this confidence; default: the bundle's.")
]


def bundle_of(folder: Path) -> Path:
    """Return the bundle that a path means: the path itself, or the bundle in a run folder.

    Raises:
        InputError: the run is not finished.
    """
    from refsynth.bundle.manifest import MANIFEST

    if (folder / MANIFEST).exists() or not folder.is_dir():
        return folder
    if (folder / "bundle").is_dir():
        return folder / "bundle"
    if (folder / "steps").is_dir():
        from refsynth.core.record import command_of

        raise InputError(f"{folder}: the run is not finished, it has no bundle", remedy=f"go on: {command_of(folder)}")
    return folder


def run_of(folder: Path) -> Path | None:
    """Return the run that a path means: the run folder itself, or the one that holds the bundle; None if there is none."""
    run = folder.parent if folder.resolve().name == "bundle" and (folder.parent / "steps").is_dir() else folder
    return run if (run / "steps").is_dir() else None


def open_bundle(folder: Path, *, threads: int, threshold: float | None = None) -> Model:
    """Load a bundle, and print its warnings on stderr."""
    from refsynth.bundle import load

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = load(bundle_of(folder), threads=threads, threshold=threshold)
    for warning in caught:
        err.print(f"warning: {warning.message}", markup=False)
    return model


@contextmanager
def open_file(
    model: Model,
    file: str,
    *,
    text: str | None,
    pair: str | None,
    label: str | None = None,
    delimiter: str | None,
    encoding: str | None,
    sheet: str | None = None,
    separator: str | None = None,
    spans: Spans = "none",
) -> Iterator[Reading]:
    """Open the rows of a file, or of standard input if `file` is `-`.

    Columns that are not named are those of the training rows; if the file lacks these, `text` and `label`.

    Raises:
        InputError: a second column is named for a bundle that takes single texts.
        DataError: the file cannot be read, or lacks the column of the text.
    """
    from refsynth.data.rows import open_rows
    from refsynth.data.table import refuse_idle

    pairs, known = model.manifest.pairs, model.manifest.columns
    if pair is not None and not pairs:
        raise InputError(f"--pair {pair}: the bundle labels single texts", remedy="leave --pair out")
    second = (pair or known.pair or PAIR_COLUMN) if pairs else None
    columns = {"text": text or known.text, "pair": second, "label": label or known.label}
    usual = Columns(text=text or "text", pair=(pair or PAIR_COLUMN) if pairs else None, label=label or "label")
    source = sys.stdin.buffer if file == "-" else Path(file)
    with open_rows(
        source,
        columns=Columns.model_validate(known.model_dump() | columns),
        otherwise=usual,
        delimiter=delimiter,
        encoding=encoding,
        sheet=sheet,
        separator=separator,
        spans=spans,
        labels=model.labels,
        merge=model.manifest.merge,
    ) as reading:
        refuse_idle(file, reading.format, delimiter=delimiter, encoding=encoding, sheet=sheet)
        yield reading
        for note in reading.notes:
            err.print(f"note: {note}", markup=False)
