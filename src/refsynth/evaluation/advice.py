"""Advice on what to do next, most useful first, derived from the state of the run and its figures."""

from __future__ import annotations

import math
from collections.abc import Iterator

from refsynth.core.types import Metric
from refsynth.evaluation.headline import points, stated
from refsynth.evaluation.overlap import be
from refsynth.evaluation.sections import ClassRow
from refsynth.evaluation.state import ReportState, state_of
from refsynth.evaluation.tree import Report

WEAK_F1 = 0.7
NAMED = 3
CONFUSIONS = 10
FEW_KEPT = 0.25
OFTEN_CONFUSED = 0.2


def advise(report: Report) -> tuple[str, ...]:
    """Return what would improve the model most, most useful first, in a sentence or two each."""
    state = state_of(report)
    return (
        *_unmeasured(state),
        *_contract(report, state),
        *_new_rows(report),
        *_weak_classes(report),
        *_confused_pairs(report),
        *_label_or_synthesize(report, state),
        *_data_hygiene(report, state),
    )


def _unmeasured(state: ReportState) -> Iterator[str]:
    if state.measured == "nothing":
        untested = f", and to test whether {state.noun} help" if state.use == "untested" else ""
        yield f"Label 8 rows of each class before you rely on it: enough to measure the model{untested}."
    elif state.measured == "not what ships":
        yield "Measure the shipped model on labeled rows before you rely on it: name a file of them under data.test."


def _contract(report: Report, state: ReportState) -> Iterator[str]:
    if state.contract == "missed" and report.compression:
        yield f"Lower the demands under contract, or take the bundle as it is: no form keeps {report.compression.asked}."


def _new_rows(report: Report) -> Iterator[str]:
    overlap = report.overlap
    if overlap is None:
        return
    if overlap.same:
        known = f"{overlap.counted(overlap.same)} also in train (overlap.csv), and figures on them say nothing about new texts"
        if overlap.new is None:
            yield f"Set aside a test file with rows that are not in train: in {overlap.file}, {known}."
        else:
            yield f"Remove the rows that are also in train from one of the two files: in {overlap.file}, {known}."
    if overlap.many_near:
        without = f"without them {overlap.apart.name} is {stated(overlap.apart)}" if overlap.apart else "no other is new"
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
        yield f"{unmeasured} of {len(report.classes.rows)} labels have no rows to measure them on: label a few of each."


def _figures(row: ClassRow, report: Report) -> str:
    known = report.data.per_label.get(row.label) if report.data else None
    return f"F1 {100 * row.f1:.0f}" + (f", {known} labeled" if known is not None else "")


def top_confusions(report: Report) -> list[tuple[str, str, int, float]]:
    """Return the most frequent mistakes as (truth, prediction, count, share of the truth's rows); the share breaks ties."""
    if report.classes is None:
        return []
    labels = [row.label for row in report.classes.rows]
    cells = [
        (labels[i], labels[j], count, count / sum(row))
        for i, row in enumerate(report.classes.confusion)
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(cells, key=lambda cell: (-cell[2], -cell[3]))[:CONFUSIONS]


def _confused_pairs(report: Report) -> Iterator[str]:
    often = [cell for cell in top_confusions(report) if cell[2] > 1 and cell[3] >= OFTEN_CONFUSED]
    if often:
        truth, predicted, count, share = often[0]
        yield (
            f"{truth} is taken for {predicted} in {count} rows ({100 * share:.0f}% of its rows): "
            "describe how the two labels differ, or merge them if the difference has no consequence."
        )


def _label_or_synthesize(report: Report, state: ReportState) -> Iterator[str]:
    gain = report.gate.gain if report.gate else None
    if report.gate is None or gain is None:
        return
    if state.use == "helpful":
        more = "more drafts, with --set synthesis.drafts=N" if state.kept else "a larger data.pool"
        yield f"{state.noun.capitalize()} help here ({points(gain)}): try {more}."
    elif state.use == "harmful":
        lowered = f"these {state.noun} lower the {report.gate.measure}"
        yield f"Label rather than synthesize: {lowered}; those of a larger reference may not."
    else:
        yield (
            f"Label rather than synthesize: on {gain.n:,} rows the effect of {state.noun} is not distinguishable from "
            f"chance ({points(gain)}); {_rows_for_half(gain)} rows would make this interval half as wide."
        )


def _rows_for_half(gain: Metric) -> str:
    rough = 4 * gain.n  # the width of an interval falls with the root of n
    step = 10 ** max(0, int(math.log10(max(rough, 1))) - 1)
    return f"about {math.ceil(rough / step) * step:,}"


def _data_hygiene(report: Report, state: ReportState) -> Iterator[str]:
    if report.drafts:
        poor = [line.label for line in report.drafts.per_class if line.asked and line.kept < FEW_KEPT * line.asked]
        if poor:
            more = f" and {len(poor) - NAMED} more" if len(poor) > NAMED else ""
            named = ", ".join(poor[:NAMED]) + more
            yield f"Few drafts were kept for {named}: describe these labels better, or give them more seed examples."
    if state.measured == "cross-validation" and not report.overlap:
        yield "Set aside a test file: the figures here are cross-validated on the rows that also made the choices."
