"""`refsynth evaluate`: a bundle's figures on labelled rows, with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.markup import escape
from rich.table import Table

from refsynth.cli.predict import PAIR_HELP, chunks, open_bundle, pair_of, read_rows
from refsynth.cli.screen import err, out, print_json
from refsynth.core.errors import DataError, nearest
from refsynth.core.sections import Columns
from refsynth.core.types import FloatArray, IntArray

if TYPE_CHECKING:
    from refsynth.bundle import Model
    from refsynth.data.io import BadRow, Row


class Scored(NamedTuple):
    """The rows that could be scored: classes [N] and probabilities [N, K]; and how many could not, by reason."""

    truth: IntArray
    probabilities: FloatArray
    left_out: Mapping[str, int]
    unknown: Mapping[str, int]


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A bundle: the folder `bundle` of a run.")],
    file: Annotated[str, typer.Argument(help="Labelled rows: CSV, TSV, JSONL or Parquet; - is JSONL on standard input.")],
    text_column: Annotated[str, typer.Option("--text", help="Column of the text.")] = "text",
    pair_column: Annotated[str | None, typer.Option("--pair", help=PAIR_HELP)] = None,
    label_column: Annotated[str, typer.Option("--label", help="Column of the label.")] = "label",
    delimiter: Annotated[str | None, typer.Option(help="Field delimiter of a CSV file; detected if left out.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Text encoding; detected if left out.")] = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads to compute with; 0: one per core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure a bundle on labelled rows: accuracy, macro-F1, calibration, abstention, each class.

    Rows that cannot be read or whose label the model does not know are left out and counted.

    Example: refsynth evaluate runs/tickets/bundle test.csv --text message --label intent
    """
    model = open_bundle(bundle, threads=threads)
    columns = Columns(text=text_column, label=label_column, pair=pair_of(model, pair_column))
    rows = read_rows(file, columns=columns, delimiter=delimiter, encoding=encoding)
    scored = score_rows(model, rows)
    if not len(scored.truth):
        raise _nothing(file, label_column, scored, model.labels)
    figures = measure(scored, model.labels, threshold=model.manifest.calibration.threshold)
    if as_json:
        print_json(figures)
    else:
        _show(figures)
    if scored.unknown:
        _warn_unknown(scored.unknown, model.labels)


def score_rows(model: Model, rows: Iterable[Row | BadRow]) -> Scored:
    """Return the model's probabilities for the rows that carry one of its labels; texts are not kept."""
    import numpy as np

    from refsynth.data.io import Row

    index = {label: number for number, label in enumerate(model.labels)}
    left_out, unknown = Counter[str](unreadable=0, unlabelled=0, unknown_label=0), Counter[str]()
    truth: list[int] = []
    parts: list[FloatArray] = [np.empty((0, len(index)))]
    for chunk in chunks(rows):
        texts = []
        for row in chunk:
            if not isinstance(row, Row):
                left_out["unreadable"] += 1
            elif row.label is None:
                left_out["unlabelled"] += 1
            elif row.label not in index:
                left_out["unknown_label"] += 1
                unknown[row.label] += 1
            else:
                truth.append(index[row.label])
                texts.append(row.text)
        if texts:
            parts.append(model.probabilities(texts))
    return Scored(np.array(truth, int), np.concatenate(parts), left_out, unknown)


def measure(scored: Scored, labels: tuple[str, ...], *, threshold: float) -> dict[str, Any]:
    """Return all figures as JSON-ready values."""
    from refsynth import metrics

    truth, predicted = scored.truth, scored.probabilities.argmax(1)
    answered = scored.probabilities.max(1) >= threshold
    table = metrics.per_class(truth, predicted, len(labels))
    return {
        "rows": len(truth) + sum(scored.left_out.values()),
        "evaluated": len(truth),
        **scored.left_out,
        "accuracy": asdict(metrics.accuracy_interval(truth, predicted)),
        "macro_f1": asdict(metrics.macro_f1_interval(truth, predicted, len(labels))),
        "calibration_error": metrics.calibration_error(truth, scored.probabilities),
        "brier": metrics.brier(truth, scored.probabilities),
        "log_loss": metrics.log_loss(truth, scored.probabilities),
        "threshold": threshold,
        "coverage": float(answered.mean()),
        "accuracy_answered": asdict(metrics.accuracy_interval(truth[answered], predicted[answered])) if answered.any() else None,
        "classes": [
            {
                "label": label,
                "precision": float(table.precision[k]),
                "recall": float(table.recall[k]),
                "f1": float(table.f1[k]),
                "rows": int(table.support[k]),
            }
            for k, label in enumerate(labels)
        ],
    }


def _nothing(file: str, label_column: str, scored: Scored, labels: tuple[str, ...]) -> DataError:
    left_out = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in scored.left_out.items() if count)
    remedy = f"name the column of the label with --label (now '{label_column}')"
    if scored.unknown:
        remedy = nearest(next(iter(scored.unknown)), labels) or "take a file with the labels of this model"
    return DataError(
        f"{file}: no row to evaluate on ({left_out or 'the file is empty'})",
        expected=f"rows with one of the labels {', '.join(labels[:12])}{', ...' if len(labels) > 12 else ''}",
        remedy=remedy,
    )


def _show(figures: Mapping[str, Any]) -> None:
    from refsynth.core.types import Metric

    left_out = ", ".join(
        f"{figures[key]:,} {key.replace('_', ' ')}" for key in ("unreadable", "unlabelled", "unknown_label") if figures[key]
    )
    out.print(f"{figures['evaluated']:,} rows{f'; left out: {left_out}' if left_out else ''}")
    out.print(f"accuracy           {Metric(**figures['accuracy']).percent()}")
    out.print(f"macro-F1           {Metric(**figures['macro_f1']).percent()}")
    out.print(f"calibration error  {100 * figures['calibration_error']:.1f}")
    out.print(f"Brier score        {figures['brier']:.3f}")
    out.print(f"log loss           {figures['log_loss']:.3f} nats")
    if figures["threshold"] and figures["accuracy_answered"]:
        right = Metric(**figures["accuracy_answered"]).percent()
        out.print(f"unsure on          {1 - figures['coverage']:.1%} (accuracy on the rest {right})")
    elif figures["threshold"]:
        out.print("unsure on          all rows")
    table = Table("class", box=None)
    for column in ("precision", "recall", "F1", "rows"):
        table.add_column(column, justify="right")
    for row in figures["classes"]:
        shares = (f"{100 * row[key]:.1f}" for key in ("precision", "recall", "f1"))
        table.add_row(escape(row["label"]), *shares, f"{row['rows']:,}")
    out.print(table)


def _warn_unknown(unknown: Mapping[str, int], labels: tuple[str, ...]) -> None:
    label, count = max(unknown.items(), key=lambda item: item[1])
    more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    err.print(
        f"warning: not labels of this model: '{label}' ({count} rows){more}. {nearest(label, labels)}".strip(), markup=False
    )
