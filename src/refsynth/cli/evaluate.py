"""`refsynth evaluate`: a bundle's figures on labeled rows, with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from rich.markup import escape
from rich.table import Table
from typer import Argument, Option

from refsynth.cli.opening import (
    Bundle,
    Delimiter,
    Encoding,
    PairColumn,
    Sheet,
    TextColumn,
    Threads,
    bundle_of,
    open_bundle,
    open_file,
)
from refsynth.cli.predict import chunks
from refsynth.cli.screen import Json, err, out, print_json
from refsynth.core.errors import DataError, counted, nearest
from refsynth.core.multilabel import SEPARATOR
from refsynth.core.types import Array, IntArray
from refsynth.data.columns import refuse_shared
from refsynth.data.labels import check_separator

FIGURES = ("accuracy", "f1_per_row", "span_f1", "precision", "recall", "micro_f1", "macro_f1", "exact_match")
CALIBRATION = ("calibration_error", "brier", "log_loss")
LEFT_OUT = {"unreadable": "unreadable", "unlabeled": "unlabeled", "unknown_label": "unknown label"}

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from refsynth.bundle import Manifest, Model
    from refsynth.data.row_reader import Spans
    from refsynth.data.rows import BadRow, Reading, Row
    from refsynth.kinds import Kind


class Scored(NamedTuple):
    """Truth, probabilities [N, K] and answers for the N rows that could be scored, and counts of the others.

    Attributes:
        truth: in the form of the model's task kind.
        probabilities: of the model.
        answers: of the model, in the form of its task kind.
        unsure: whether the model abstains on each row [N].
        groups: one number for each row [N]; rows with the same text share it.
        left_out: how many rows were left out, by reason.
        unknown: how many rows carry each label that the model does not know.
        trained: whether the model learned from each row [N]; None if the training rows are not known.
        truncated: how many texts are longer than what the model reads.
        none: whether the model says that each row [N] fits none of its labels, which is always wrong; None if it cannot tell.
        unknown_none: for how many rows with unknown labels the model says so; None if it cannot tell.
    """

    truth: Array
    probabilities: Array
    answers: Array
    unsure: NDArray[np.bool_]
    groups: IntArray
    left_out: Mapping[str, int]
    unknown: Mapping[str, int]
    trained: NDArray[np.bool_] | None = None
    truncated: int = 0
    none: NDArray[np.bool_] | None = None
    unknown_none: int | None = None


def evaluate(
    bundle: Bundle,
    file: Annotated[str, Argument(help="Labeled rows: CSV, TSV, JSONL, Parquet or Excel; - is standard input.")],
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: Annotated[
        str | None, Option("--label", "--label-column", help="Column of the label; default: as in training.")
    ] = None,
    separator: Annotated[str, Option(help="Separator of labels in a cell, for a multi-label bundle.")] = SEPARATOR,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    threads: Threads = 0,
    as_json: Json = False,
) -> None:
    """Measure a bundle on labeled rows.

    The figures are accuracy, macro-F1, calibration, abstention, and precision, recall and F1 of each label. A multi-label
    bundle gets F1 per row, micro-F1, macro-F1, exact match and the figures of each label. A token-classification bundle gets
    F1, precision and recall of whole spans, macro-F1 and exact match; its calibration is that of the spans it finds. Rows
    that cannot be read and rows whose label the model does not know are left out and counted.

    Example: refsynth evaluate runs/tickets test.csv --text message --label intent
    """
    from refsynth.evaluation.trained import trained_on

    check_separator(separator)
    model = open_bundle(bundle, threads=threads)
    kind = model.manifest.answers
    spans: Spans = "marked" if kind.words else "none"
    with open_file(
        model,
        file,
        text=text_column,
        pair=pair_column,
        label=label_column,
        delimiter=delimiter,
        encoding=encoding,
        sheet=sheet,
        separator=separator if kind.several else None,
        spans=spans,
    ) as reading:
        refuse_shared(Path(file), tuple(reading.heads), reading.taken, labeled=not kind.words)
        scored = score_rows(model, reading.rows, trained_on(bundle_of(bundle), model.manifest))
    if not len(scored.truth):
        raise _nothing_to_evaluate(file, reading, scored, model.labels)
    figures = measure(scored, model.manifest)
    if as_json:
        print_json(figures)
    else:
        _show(figures)
    if scored.truncated:
        texts = counted(scored.truncated, "text")
        err.print(f"{texts} longer than the model reads: a part of each was not read", markup=False)
    if scored.unknown:
        _warn_unknown(scored.unknown, model.labels)


def score_rows(model: Model, rows: Iterable[Row | BadRow], known: frozenset[bytes] | None = None) -> Scored:
    """Return the model's answers for the rows that carry one of its labels.

    Rows are grouped by texts that are equal once they are normalized. Near-copies are not looked for: that would need all texts
    in memory, and SciPy, which a bundle does not need to predict.

    Args:
        model: the loaded bundle.
        rows: as they were read.
        known: keys of the texts that the model learned from; None if they are not known.
    """
    import numpy as np

    from refsynth.data.rows import Row
    from refsynth.evaluation.trained import text_key

    kind, labels = model.manifest.answers, model.labels
    left_out, unknown = Counter[str](dict.fromkeys(LEFT_OUT, 0)), Counter[str]()
    row_labels: list[str] = []
    group_of: dict[bytes, int] = {}
    groups: list[int] = []
    unsure: list[Array] = [np.zeros(0, bool)]
    none: list[Array] = [np.zeros(0, bool)]
    truncated = unknown_none = 0
    parts: list[Array] = [np.empty(0, object) if kind.words else np.empty((0, len(labels)))]
    for chunk in chunks(rows):
        texts, others = [], []
        for row in chunk:
            if not isinstance(row, Row):
                left_out["unreadable"] += 1
            elif row.label is None:
                left_out["unlabeled"] += 1
            elif unknown_names := [name for name in kind.names(row.label) if name not in labels]:
                left_out["unknown_label"] += 1
                unknown.update(unknown_names)
                others.append(row.text)
            else:
                row_labels.append(row.label)
                texts.append(row.text)
                groups.append(group_of.setdefault(text_key(row.text), len(group_of)))
        if texts:
            truncated += sum(map(model.truncates, texts))
            answered = model.answer(texts)
            parts.append(answered.probabilities)
            unsure.append(answered.unsure)
            none.append(answered.none)
        if others and model.tells_none:
            unknown_none += int(model.answer(others).none.sum())
    probabilities, row_groups = np.concatenate(parts), np.array(groups, int)
    trained = None if known is None else np.array([key in known for key in group_of], bool)[row_groups]
    return Scored(
        kind.truth(row_labels, labels),
        probabilities,
        model.decide(probabilities),
        np.concatenate(unsure),
        row_groups,
        left_out,
        unknown,
        trained,
        truncated,
        np.concatenate(none) if model.tells_none else None,
        unknown_none if model.tells_none else None,
    )


def measure(scored: Scored, manifest: Manifest) -> dict[str, Any]:
    """Return all figures as JSON-ready values."""
    from refsynth.core.intervals import INTERVALS, mean_interval
    from refsynth.evaluation.trained import in_training

    kind, labels, threshold = manifest.answers, [label.name for label in manifest.labels], manifest.calibration.threshold
    truth, answers, groups = scored.truth, scored.answers, scored.groups
    right, answered, k = kind.right(truth, answers), ~scored.unsure, len(labels)
    figures = kind.figures(truth, answers, k, groups)
    return {
        "rows": len(truth) + sum(scored.left_out.values()),
        "evaluated": len(truth),
        "truncated": scored.truncated,
        **scored.left_out,
        **{figure.name.lower().replace("-", "_").replace(" ", "_"): asdict(figure) for figure in figures},
        "in_training": in_training(scored.trained, lambda new: kind.figures(truth[new], answers[new], k, groups[new])[0]),
        **_calibration(scored, kind),
        "threshold": threshold,
        "coverage": float(answered.mean()),
        "accuracy_answered": asdict(mean_interval("accuracy", right[answered], groups[answered])) if answered.any() else None,
        "none": None if scored.none is None else asdict(mean_interval("none of these", scored.none, groups)),
        "unknown_none": scored.unknown_none,
        "intervals": INTERVALS,
        "classes": _classes(scored, manifest),
    }


def _calibration(scored: Scored, kind: Kind) -> dict[str, float | None]:
    """Return calibration error, Brier score and log loss: of rows, of pairs of row and label, or of the spans that were found."""
    import numpy as np

    from refsynth.kinds import metrics
    from refsynth.kinds.spans import span_confidences, spans_right

    truth, probabilities = scored.truth, scored.probabilities
    bins = None if kind.several or kind.words else metrics.reliability(truth, probabilities)
    if bins is None:
        truth, confidences = truth.ravel(), probabilities.ravel()
        if kind.words:
            truth, confidences = spans_right(truth, scored.answers), span_confidences(probabilities, scored.answers)
        if not len(confidences):
            return dict.fromkeys(CALIBRATION)
        probabilities, bins = np.stack([1 - confidences, confidences], 1), metrics.reliability_of(confidences, truth)
    return {
        "calibration_error": metrics.distance(bins),
        "brier": metrics.brier(truth, probabilities),
        "log_loss": metrics.log_loss(truth, probabilities),
    }


def _classes(scored: Scored, manifest: Manifest) -> list[dict[str, Any]]:
    truth, answers, thresholds = scored.truth, scored.answers, manifest.calibration.thresholds
    table = manifest.answers.table(truth, answers, len(manifest.labels))
    return [
        {
            "label": label.name,
            "precision": float(table.precision[k]),
            "recall": float(table.recall[k]),
            "f1": float(table.f1[k]),
            "rows": int(table.support[k]),
            **({"threshold": thresholds[k]} if thresholds else {}),
        }
        for k, label in enumerate(manifest.labels)
    ]


def _nothing_to_evaluate(file: str, reading: Reading, scored: Scored, labels: tuple[str, ...]) -> DataError:
    left_out = ", ".join(f"{count} {LEFT_OUT[reason]}" for reason, count in scored.left_out.items() if count)
    columns = ", ".join(reading.heads.values())
    remedy = f"name the column of the label with --label (now '{reading.taken.label}'; columns there: {columns})"
    if scored.unknown:
        remedy = nearest(next(iter(scored.unknown)), labels) or "use a file with the labels of this model"
    return DataError(
        f"{file}: no row to evaluate ({left_out or 'the file is empty'})",
        expected=f"rows with one of the labels {', '.join(labels[:12])}{', ...' if len(labels) > 12 else ''}",
        remedy=remedy,
    )


def _show(figures: Mapping[str, Any]) -> None:
    from refsynth.core.types import Metric

    left_out = ", ".join(f"{figures[key]:,} {reason}" for key, reason in LEFT_OUT.items() if figures[key])
    out.print(f"{counted(figures['evaluated'], 'row')}{f'; left out: {left_out}' if left_out else ''}")
    out.print(figures["in_training"]["said"], markup=False)
    for figure in (Metric(**figures[key]) for key in FIGURES if key in figures):
        out.print(f"{figure.name:<18} {figure.percent()}")
    if figures["calibration_error"] is not None:
        out.print(f"calibration error  {100 * figures['calibration_error']:.1f}")
        out.print(f"Brier score        {figures['brier']:.3f}")
        out.print(f"log loss           {figures['log_loss']:.3f} nats")
    if figures["threshold"] and figures["accuracy_answered"]:
        right = Metric(**figures["accuracy_answered"]).percent()
        measure = "exact match" if "exact_match" in figures else "accuracy"
        out.print(f"unsure on          {1 - figures['coverage']:.1%} ({measure} on the rest {right})")
    elif figures["threshold"]:
        out.print("unsure on          all rows")
    if figures["none"]:
        others = f"; of those with unknown labels {figures['unknown_none']:,} of {figures['unknown_label']:,}"
        wrong = f"{Metric(**figures['none']).percent()} of the rows, all wrongly"
        out.print(f"none of these      {wrong}{others if figures['unknown_label'] else ''}")
    table = Table("class", box=None)
    threshold = ("threshold",) if "threshold" in figures["classes"][0] else ()
    for column in ("precision", "recall", "F1", *threshold, "spans" if "span_f1" in figures else "rows"):
        table.add_column(column, justify="right")
    for row in figures["classes"]:
        shares = (f"{100 * row[key]:.1f}" for key in ("precision", "recall", "f1", *threshold))
        table.add_row(escape(row["label"]), *shares, f"{row['rows']:,}")
    out.print(table)
    out.print(figures["intervals"], style="italic", markup=False)


def _warn_unknown(unknown: Mapping[str, int], labels: tuple[str, ...]) -> None:
    label, count = max(unknown.items(), key=lambda item: item[1])
    more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    err.print(
        f"warning: the model has no label '{label}' ({counted(count, 'row')}){more}. {nearest(label, labels)}".strip(),
        markup=False,
    )
