"""The two things a reader takes away: the verdict in one sentence, and what to do next. Words only, derived from the figures."""

from __future__ import annotations

import math
from collections.abc import Iterator

from refsynth.core.types import Metric
from refsynth.evaluation.overlap import Overlap, be
from refsynth.evaluation.sections import ClassRow, Gate
from refsynth.evaluation.tree import Report

WEAK_F1 = 0.7
NAMED = 3
FEW_KEPT = 0.25
OFTEN_CONFUSED = 0.2


def points(gain: Metric) -> str:
    """Return e.g. `+6.7 points [+2.1, +11.4]`."""
    return f"{100 * gain.value:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]"


def verdict(report: Report) -> str:
    """Return the outcome in one sentence."""
    shipped = report.results.shipped if report.results else None
    opening, owner = "No drafts were used", "the bundle's"
    if report.gate:
        opening, owner = _gate_clause(report.gate), "its"
    elif report.drafts:
        opening = "Drafts were not put to the test on real rows"
    shared = _shared_clause(report.overlap) if report.overlap else ""
    if report.results is None or shipped is None or shipped.score is None:
        return f"{opening}{shared}."
    score, tested = shipped.score, report.results.source == "test file"
    new = "new " if report.overlap and report.overlap.same else ""
    rows = f"{new}rows of {report.results.file}" if tested else "real rows, cross-validated"
    return f"{opening}; {owner} {score.name} is {_value(score)} on {score.n:,} {rows}{shared}."


def _value(score: Metric) -> str:
    return f"{score.value:.1%} [{100 * score.low:.1f}-{100 * score.high:.1f}]"


def _shared_clause(overlap: Overlap) -> str:
    """Return what is said of test rows that are in train too, beside the figure without them."""
    if not overlap.same:
        return ""
    if overlap.new is None:
        found = f"{overlap.counted(overlap.same)} also in train, where its {overlap.whole.name} is {_value(overlap.whole)}"
        return f"; nothing was measured on new rows of {overlap.file}: {found}"
    return f" ({_value(overlap.whole)} on all {overlap.n:,}, of which {len(overlap.same):,} {be(overlap.same)} also in train)"


def _gate_clause(gate: Gate) -> str:
    if not gate.with_drafts:
        return f"No drafts were compared, so the bundle is trained on real rows only ({gate.learner})"
    found = f": {points(gate.gain)} on {gate.gain.n:,} held-out real rows" if gate.gain else ""
    if gate.accepted:
        return f"Drafts help{found}, so the bundle is trained with them ({gate.learner})"
    what = "Drafts do harm" if gate.gain and gate.gain.high < 0 else "What drafts bring cannot be told from chance"
    return f"{what}{found}, so the bundle is trained on real rows only ({gate.learner})"


def advise(report: Report) -> tuple[str, ...]:
    """Return what would improve the model most, most useful first; a sentence or two each."""
    return (
        *_new_rows(report),
        *_weak_classes(report),
        *_confused_pairs(report),
        *_label_or_synthesise(report),
        *_data_hygiene(report),
    )


def _new_rows(report: Report) -> Iterator[str]:
    overlap = report.overlap
    if overlap is None:
        return
    if overlap.same:
        which = (
            f"{overlap.counted(overlap.same)} also in train (overlap.csv), and what is measured on them says nothing of new texts"
        )
        if overlap.new is None:
            yield f"Set aside a test file of other rows than those of train: of {overlap.file} {which}."
        else:
            yield f"Take the rows that are also in train out of one of the two files: of {overlap.file} {which}."
    if overlap.many_near:
        without = f"without them {overlap.apart.name} is {_value(overlap.apart)}" if overlap.apart else "no other is new"
        near = f"{len(overlap.near):,} of {overlap.n:,} rows of {overlap.file} {be(overlap.near)} nearly the same as one in train"
        yield f"Look at overlap.csv: {near}; {without}."


def _weak_classes(report: Report) -> Iterator[str]:
    if report.classes is None:
        return
    measured = [row for row in report.classes.rows if row.support]
    weak = sorted((row for row in measured if row.f1 < WEAK_F1), key=lambda row: row.f1)[:NAMED]
    if weak:
        named = ", ".join(f"{row.label} ({_figures(row, report)})" for row in weak)
        yield f"Label more rows of the weakest classes first: {named}."
    unmeasured = len(report.classes.rows) - len(measured)
    if unmeasured:
        yield f"{unmeasured} of {len(report.classes.rows)} labels have no row to be measured on: label a few of each."


def _figures(row: ClassRow, report: Report) -> str:
    known = report.data.per_label.get(row.label) if report.data else None
    return f"F1 {100 * row.f1:.0f}" + (f", {known} labelled" if known is not None else "")


def top_confusions(report: Report, limit: int = 10) -> list[tuple[str, str, int, float]]:
    """Return (truth, prediction, count, share of the truth's rows) of the most frequent mistakes, by share among equals."""
    if report.classes is None:
        return []
    labels = [row.label for row in report.classes.rows]
    cells = [
        (labels[i], labels[j], count, count / sum(row))
        for i, row in enumerate(report.classes.confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(cells, key=lambda cell: (-cell[2], -cell[3]))[:limit]


def _confused_pairs(report: Report) -> Iterator[str]:
    often = [cell for cell in top_confusions(report) if cell[2] > 1 and cell[3] >= OFTEN_CONFUSED]
    if often:
        truth, said, count, share = often[0]
        yield (
            f"{truth} is taken for {said} in {count} rows ({100 * share:.0f}% of its rows): "
            "say in their descriptions what sets them apart, or merge the two if nobody acts on the difference."
        )


def _label_or_synthesise(report: Report) -> Iterator[str]:
    gain = report.gate.gain if report.gate else None
    if report.gate is None or gain is None:
        if report.gate is None and report.drafts:
            yield "Label 8 rows of each class: enough to test whether drafts help and to measure the model."
        return
    if report.gate.accepted:
        yield f"Synthesis pays here ({points(gain)}): try more drafts, with --set synthesis.drafts=N."
    elif gain.high < 0:
        lowered = f"this reference's drafts lower the {report.gate.measure}"
        yield f"Label rather than synthesise: {lowered}; those of a larger one may not."
    else:
        yield (
            f"Label rather than synthesise: on {gain.n:,} rows the effect of drafts cannot be told from none "
            f"({points(gain)}); {_rows_to_tell(gain)} rows would make this interval half as wide."
        )


def _rows_to_tell(gain: Metric) -> str:
    rough = 4 * gain.n  # the width of an interval falls with the root of n
    step = 10 ** max(0, int(math.log10(max(rough, 1))) - 1)
    return f"about {math.ceil(rough / step) * step:,}"


def _data_hygiene(report: Report) -> Iterator[str]:
    if report.drafts:
        poor = [line.label for line in report.drafts.per_class if line.asked and line.kept < FEW_KEPT * line.asked]
        if poor:
            more = f" and {len(poor) - NAMED} more" if len(poor) > NAMED else ""
            named = ", ".join(poor[:NAMED]) + more
            yield f"Few drafts were kept for {named}: describe these labels better, or give them more seed examples."
    files = report.data.files if report.data else ()
    conflicts = sum(len(file.conflicts) for file in files)
    if conflicts:
        texts = "1 text carries" if conflicts == 1 else f"{conflicts} texts carry"
        yield f"Settle which label is right: {texts} several, listed under Data."
    if report.results and report.results.source == "cross-validation" and not report.overlap:
        yield "Set aside a test file: the figures here are cross-validated on the rows that the choices were made with."
