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

from refsynth.cli.opening import Bundle, Delimiter, Encoding, PairColumn, Sheet, TextColumn, bundle_of, open_bundle, open_file
from refsynth.cli.predict import chunks
from refsynth.cli.screen import err, out, print_json
from refsynth.core.errors import DataError, counted, nearest
from refsynth.core.multilabel import SEPARATOR
from refsynth.core.types import Array, IntArray
from refsynth.data.columns import refuse_shared
from refsynth.data.labels import check_separator

FIGURES = ("accuracy", "f1_per_row", "span_f1", "precision", "recall", "micro_f1", "macro_f1", "exact_match")
TRUST = ("calibration_error", "brier", "log_loss")

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from refsynth.bundle import Manifest, Model
    from refsynth.data.judge import Spans
    from refsynth.data.rows import BadRow, Reading, Row
    from refsynth.kinds import Kind


class Scored(NamedTuple):
    """The rows that could be scored: truth and answers of the model's kind, probabilities [N, K]; how many could not, why.

    `unsure` [N] are those on which the model abstains; rows of one of the `groups` [N] have the same text. `taught` [N] are those
    that the model learned from; None where its run is not known. Of `truncated` rows a part of the text was not read. `none` [N]
    are those that it marks as none of these, all wrongly; `others` counts those with labels that it does not know. Both are None
    where it cannot tell.
    """

    truth: Array
    probabilities: Array
    answers: Array
    unsure: NDArray[np.bool_]
    groups: IntArray
    left_out: Mapping[str, int]
    unknown: Mapping[str, int]
    taught: NDArray[np.bool_] | None = None
    truncated: int = 0
    none: NDArray[np.bool_] | None = None
    others: int | None = None


def evaluate(
    bundle: Bundle,
    file: Annotated[str, typer.Argument(help="Labelled rows: CSV, TSV, JSONL, Parquet or Excel; - is standard input.")],
    text_column: TextColumn = None,
    pair_column: PairColumn = None,
    label_column: Annotated[
        str | None, typer.Option("--label", "--label-column", help="Column of the label; that of the training rows if left out.")
    ] = None,
    separator: Annotated[
        str, typer.Option(help="What stands between the labels in a cell, where a row has several.")
    ] = SEPARATOR,
    delimiter: Delimiter = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    threads: Annotated[int, typer.Option(min=0, help="Threads to compute with; 0: one per core.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure a bundle on labelled rows: accuracy, macro-F1, calibration, abstention, each class.

    Of a bundle that gives a text any number of labels: F1 per row, micro- and macro-F1, exact match, each label. Of one that
    labels words: F1, precision and recall of whole spans, macro-F1, exact match; calibration is of the spans found. Rows that
    cannot be read or whose label the model does not know are left out and counted.

    Example: refsynth evaluate runs/tickets test.csv --text message --label intent
    """
    from refsynth.evaluation.trained import trained_on

    check_separator(separator)
    model = open_bundle(bundle, threads=threads)
    kind = model.manifest.answers
    spans: Spans = "marked" if kind.spans else "none"
    cells = separator if kind.several else None
    with open_file(
        model,
        file,
        text=text_column,
        pair=pair_column,
        label=label_column,
        delimiter=delimiter,
        encoding=encoding,
        sheet=sheet,
        separator=cells,
        spans=spans,
    ) as reading:
        refuse_shared(Path(file), tuple(reading.heads), reading.taken, labeled=not kind.spans)
        scored = score_rows(model, reading.rows, trained_on(bundle_of(bundle), model.manifest))
    if not len(scored.truth):
        raise _nothing(file, reading, scored, model.labels)
    figures = measure(scored, model.manifest)
    if as_json:
        print_json(figures)
    else:
        _show(figures)
    if scored.truncated:
        long = counted(scored.truncated, "text")
        err.print(f"{long} longer than the model reads: a part of each was not read", markup=False)
    if scored.unknown:
        _warn_unknown(scored.unknown, model.labels)


def score_rows(model: Model, rows: Iterable[Row | BadRow], known: frozenset[bytes] | None = None) -> Scored:
    """Return the model's probabilities for the rows that carry one of its labels; `known` are keys of those it learned from.

    Texts are not kept, and near-copies of each other cannot be looked for without SciPy, which a bundle does not need to predict:
    rows are grouped by texts that are equal when made comparable.
    """
    import numpy as np

    from refsynth.data.rows import Row
    from refsynth.evaluation.trained import text_key

    kind, labels = model.manifest.answers, model.labels
    left_out, unknown = Counter[str](unreadable=0, unlabelled=0, unknown_label=0), Counter[str]()
    given: list[str] = []
    group_of: dict[bytes, int] = {}
    groups: list[int] = []
    unsure: list[Array] = [np.zeros(0, bool)]
    none: list[Array] = [np.zeros(0, bool)]
    truncated = marked = 0
    parts: list[Array] = [np.empty(0, object) if kind.spans else np.empty((0, len(labels)))]
    for chunk in chunks(rows):
        texts, others = [], []
        for row in chunk:
            if not isinstance(row, Row):
                left_out["unreadable"] += 1
            elif row.label is None:
                left_out["unlabelled"] += 1
            elif strange := [name for name in kind.names(row.label) if name not in labels]:
                left_out["unknown_label"] += 1
                unknown.update(strange)
                others.append(row.text)
            else:
                given.append(row.label)
                texts.append(row.text)
                groups.append(group_of.setdefault(text_key(row.text), len(group_of)))
        if texts:
            truncated += sum(map(model.cuts, texts))
            found = model.answer(texts)
            parts.append(found.probabilities)
            unsure.append(found.unsure)
            none.append(found.none)
        if others and model.tells_none:
            marked += int(model.answer(others).none.sum())
    probabilities = np.concatenate(parts)
    answers, abstained = model.decide(probabilities), np.concatenate(unsure)
    of_group = [known is not None and key in known for key in group_of]
    taught = None if known is None else np.array([of_group[group] for group in groups], bool)
    truth, rows_of = kind.truth(given, labels), np.array(groups, int)
    scored = Scored(truth, probabilities, answers, abstained, rows_of, left_out, unknown, taught, truncated)
    if not model.tells_none:
        return scored
    return scored._replace(none=np.concatenate(none), others=marked)


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
        "in_training": in_training(scored.taught, lambda new: kind.figures(truth[new], answers[new], k, groups[new])[0]),
        **_trust(scored, kind),
        "threshold": threshold,
        "coverage": float(answered.mean()),
        "accuracy_answered": asdict(mean_interval("accuracy", right[answered], groups[answered])) if answered.any() else None,
        "none": None if scored.none is None else asdict(mean_interval("none of these", scored.none, groups)),
        "unknown_none": scored.others,
        "intervals": INTERVALS,
        "classes": _classes(scored, manifest),
    }


def _trust(scored: Scored, kind: Kind) -> dict[str, float | None]:
    """Return the calibration of the rows, of all decisions on a row and a label, or of all spans that were found."""
    import numpy as np

    from refsynth.kinds import metrics
    from refsynth.kinds.spans import span_confidences, spans_right

    truth, probabilities = scored.truth, scored.probabilities
    bins = None if kind.several or kind.spans else metrics.reliability(truth, probabilities)
    if bins is None:
        truth, said = truth.ravel(), probabilities.ravel()
        if kind.spans:
            truth, said = spans_right(truth, scored.answers), span_confidences(probabilities, scored.answers)
        if not len(said):
            return dict.fromkeys(TRUST)
        probabilities, bins = np.stack([1 - said, said], 1), metrics.reliability_of(said, truth)
    return {
        "calibration_error": metrics.distance(bins),
        "brier": metrics.brier(truth, probabilities),
        "log_loss": metrics.log_loss(truth, probabilities),
    }


def _classes(scored: Scored, manifest: Manifest) -> list[dict[str, Any]]:
    truth, answers, least = scored.truth, scored.answers, manifest.calibration.thresholds
    table = manifest.answers.table(truth, answers, len(manifest.labels))
    return [
        {
            "label": label.name,
            "precision": float(table.precision[place]),
            "recall": float(table.recall[place]),
            "f1": float(table.f1[place]),
            "rows": int(table.support[place]),
            **({"threshold": least[place]} if least else {}),
        }
        for place, label in enumerate(manifest.labels)
    ]


def _nothing(file: str, reading: Reading, scored: Scored, labels: tuple[str, ...]) -> DataError:
    left_out = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in scored.left_out.items() if count)
    remedy = (
        f"name the column of the label with --label (now '{reading.taken.label}'; there are {', '.join(reading.heads.values())})"
    )
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
        rest = "exact match" if "exact_match" in figures else "accuracy"
        out.print(f"unsure on          {1 - figures['coverage']:.1%} ({rest} on the rest {right})")
    elif figures["threshold"]:
        out.print("unsure on          all rows")
    if figures["none"]:
        rest = f"; of those with unknown labels {figures['unknown_none']:,} of {figures['unknown_label']:,}"
        wrong = f"{Metric(**figures['none']).percent()} of the rows, all wrongly"
        out.print(f"none of these      {wrong}{rest if figures['unknown_label'] else ''}")
    table = Table("class", box=None)
    least = ("threshold",) if "threshold" in figures["classes"][0] else ()
    for column in ("precision", "recall", "F1", *least, "spans" if "span_f1" in figures else "rows"):
        table.add_column(column, justify="right")
    for row in figures["classes"]:
        shares = (f"{100 * row[key]:.1f}" for key in ("precision", "recall", "f1", *least))
        table.add_row(escape(row["label"]), *shares, f"{row['rows']:,}")
    out.print(table)
    out.print(figures["intervals"], style="italic", markup=False)


def _warn_unknown(unknown: Mapping[str, int], labels: tuple[str, ...]) -> None:
    label, count = max(unknown.items(), key=lambda item: item[1])
    more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
    err.print(
        f"warning: not labels of this model: '{label}' ({counted(count, 'row')}){more}. {nearest(label, labels)}".strip(),
        markup=False,
    )
