"""`refsynth record`: the predictions and feedback that a server records: tables, counts, export, retention."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from refsynth.cli.files import check_writable
from refsynth.cli.once import Commands
from refsynth.cli.screen import Json, command, err, out, print_json
from refsynth.core.errors import InputError, counted
from refsynth.core.labelset import JOINER, NONE
from refsynth.core.spans import names_in

record = Commands(help="The record of predictions and feedback: upgrade, show, export, purge.", no_args_is_help=True)

Where = Annotated[
    str,
    Argument(envvar="REFSYNTH_RECORD", help="A SQLite file or postgresql://user@host/name; pass a password in $REFSYNTH_RECORD."),
]


@record.command("upgrade")
def upgrade(where: Where) -> None:
    """Create the tables, or bring those of an older version up to date.

    Example: refsynth record upgrade postgresql://refsynth@db/refsynth
    """
    from refsynth.service.monitor.record import PredictionRecord

    PredictionRecord.open(where).close()
    err.print("the tables are up to date")


@record.command("show")
def show(
    where: Where,
    days: Annotated[float, Option(min=0, help="How far back to count.")] = 7,
    as_json: Json = False,
) -> None:
    """Count predictions by label, abstentions, feedback, and how often feedback agrees with the prediction.

    Example: refsynth record show record.sqlite --days 1
    """
    from refsynth.service.monitor.record import PredictionRecord

    with closing(PredictionRecord.open(where, tables="check")) as opened:
        summary = opened.summary(since=_ago(days))
    if as_json:
        print_json(summary._asdict())
        return
    total = sum(summary.predictions.values())
    none = f", {summary.none:,} none of these" if summary.none else ""
    out.print(f"last {days:g} days: {total:,} predictions, {summary.abstained:,} unsure{none}", markup=False)
    by_names: Counter[str] = Counter()
    for label, n in summary.predictions.items():
        by_names[JOINER.join(names_in(label)) or NONE] += n
    for label, n in by_names.most_common():
        out.print(f"  {label}: {n:,} ({n / total:.0%})", markup=False)
    agreed = f"{summary.agreed:,} of {summary.compared:,} agree with the prediction"
    out.print(f"{summary.feedback:,} feedback, {agreed}", markup=False)


@record.command("export")
def export(
    where: Where,
    file: Annotated[Path, Option("--out", help="The table to write: .csv, .tsv, .jsonl, .xlsx or .parquet.")],
    days: Annotated[float | None, Option(min=0, help="Only the last days.")] = None,
    run: Annotated[
        Path | None, Option("--for", help="Write columns and labels as `refsynth label` reads them for this run.")
    ] = None,
    unsure: Annotated[bool, Option("--unsure", help="Instead: texts that the model was unsure of and nobody labeled.")] = False,
    as_json: Json = False,
) -> None:
    """Write the texts that people labeled, as rows to train on.

    Example: refsynth record export record.sqlite --out feedback.csv --for runs/tickets
    """
    from refsynth.service.monitor.export import Cells, plain
    from refsynth.service.monitor.export import export as export_to
    from refsynth.service.monitor.record import PredictionRecord

    check_writable(file)
    cells: Cells = plain
    if run is not None:
        from refsynth.labels.more import cells_for

        cells = cells_for(run)
    with closing(PredictionRecord.open(where, tables="check")) as opened:
        done = export_to(opened, file, since=None if days is None else _ago(days), unsure=unsure, cells=cells)
    if as_json:
        print_json({"file": str(file), **done._asdict()})
        return
    err.print(f"{counted(done.rows, 'row')} in {file}", markup=False)
    if done.without_text:
        err.print(f"{done.without_text:,} more have no text: a server stores texts only with --keep-texts", markup=False)
    if run is not None and done.rows:
        err.print(f"next: {command('label', 'next' if unsure else 'add', file, '--run', run)}", markup=False)


@record.command("purge")
def purge(
    where: Where,
    days: Annotated[float, Option(min=0, help="Delete what is older than this many days.")],
    as_json: Json = False,
) -> None:
    """Delete old predictions and feedback, texts included.

    Example: refsynth record purge record.sqlite --days 90
    """
    from refsynth.service.monitor.record import PredictionRecord

    with closing(PredictionRecord.open(where, tables="check")) as opened:
        done = opened.purge(before=_ago(days))
    if as_json:
        print_json(done._asdict())
        return
    err.print(f"deleted {done.predictions:,} predictions and {done.feedback:,} feedback", markup=False)
    if not done.erased:
        remedy = (
            "PostgreSQL overwrites their bytes some time after a vacuum"
            if "://" in where
            else "another process reads the record: run the same command again later"
        )
        err.print(f"their bytes are still in its files; {remedy}", markup=False)


def _ago(days: float) -> datetime:
    try:
        return datetime.now(UTC) - timedelta(days=days)
    except (OverflowError, ValueError):  # before the first date, or NaN
        raise InputError(f"--days {days}: too long ago", expected="a number of days") from None
