"""Plots as inline SVG: values in, a string out; the same string for the same values and matplotlib.

Text stays text, so the page's fonts draw it, Chinese included. Ink, grid and series colours are CSS variables of the page with
fallbacks, so one plot serves light, dark and print. Series differ in shape or hatching too. Colours: Okabe and Ito (2008).
"""

from __future__ import annotations

import io
import logging
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from refsynth.core.extras import require
from refsynth.core.types import Metric
from refsynth.evaluation.confidence import Calibration
from refsynth.evaluation.origins import Reinforced, ScoreHistogram
from refsynth.evaluation.sections import Comparison, CurvePoint, System, Variant
from refsynth.evaluation.wording import WORDING, Wording
from refsynth.metrics import ReliabilityBin, wilson

INK, MUTED, GRID, PAGE = "#010203", "#040506", "#070809", "#0a0b0c"
BLUE, ORANGE, RED = "#0072b2", "#e69f00", "#d55e00"
VARIABLES = {
    INK: "var(--ink, #1b1f24)",
    MUTED: "var(--muted, #5a646e)",
    GRID: "var(--grid, #dde2e7)",
    PAGE: "var(--page, #ffffff)",
    BLUE: "var(--blue, #0072b2)",
    ORANGE: "var(--orange, #e69f00)",
    RED: "var(--red, #d55e00)",
}
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "refsynth",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.color": MUTED,
    "ytick.labelcolor": INK,
}
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
NAME_WIDTH = 38
CROWDED = 40
PAD = 0.55  # inches below the axes, for ticks and their title


def results(systems: Sequence[System]) -> str:
    """Draw the score of each system with its 95% interval."""
    lines = [(system.name, system.score, system.shipped) for system in systems if system.score]
    measure = lines[0][1].name

    def paint(figure: Any) -> None:
        axes = _axes(figure, left=0.15, bottom=PAD)
        for row, (_, metric, shipped) in enumerate(lines):
            _interval(axes, metric, row, color=BLUE, marker="D" if shipped else "o", size=7 if shipped else 5.5)
        _name_rows(axes, [name for name, _, _ in lines])
        axes.set_xlabel(f"{measure}, % (95% interval)")

    return _draw("results", f"{capital(measure)} of each system with its 95% interval", 5.2, 0.44 * len(lines) + 0.75, paint)


def gate(comparisons: Sequence[Comparison], *, measure: str = "accuracy") -> str:
    """Draw each learner's score without and with drafts, and beside it the paired gain."""
    names = [line.learner for line in comparisons]

    def paint(figure: Any) -> None:
        axes = _axes(figure, left=0.15, bottom=PAD, top=0.35, right=2.75)
        gains = _axes(figure, left=2.85, bottom=PAD, top=0.35)
        for row, line in enumerate(comparisons):
            _interval(axes, line.real, row - 0.12, color=ORANGE, marker="o", hollow=True, label="real rows only")
            _interval(axes, line.augmented, row + 0.14, color=BLUE, marker="o", label="real rows + drafts")
            _interval(gains, line.gain, row, color=BLUE, marker="D")
        _name_rows(axes, names)
        _name_rows(gains, [""] * len(names))
        gains.axvline(0, color=INK, linewidth=0.9)
        axes.set_xlabel(f"{measure}, % (95% interval)")
        gains.set_xlabel("paired gain, points (95% interval)")
        _legend(axes)

    label = f"{capital(measure)} of each learner without and with drafts, and the paired gain"
    return _draw("gate", label, 5.4, 0.62 * len(names) + 1.0, paint)


def learning(curve: Sequence[CurvePoint]) -> str:
    """Draw accuracy over the number of real rows, without and with drafts, with 95% bands."""

    def paint(figure: Any) -> None:
        axes = _axes(figure, left=0.6, bottom=PAD, top=0.35)
        series = ((False, ORANGE, "o--", "real rows only"), (True, BLUE, "o-", "real rows + drafts"))
        for drafts, color, style, label in series:
            chosen = sorted((point for point in curve if point.drafts is drafts), key=lambda point: point.rows)
            rows = [point.rows for point in chosen]
            low, high = ([100 * getattr(point.accuracy, side) for point in chosen] for side in ("low", "high"))
            axes.fill_between(rows, low, high, color=color, alpha=0.15, linewidth=0)
            axes.plot(rows, [100 * point.accuracy.value for point in chosen], style, color=color, label=label, markersize=4)
        axes.set_xlabel("real rows to train on")
        axes.set_ylabel("accuracy, %")
        axes.grid(visible=True)
        _legend(axes)

    return _draw("learning", "Accuracy by number of real rows, without and with drafts", 4.8, 3.2, paint)


def reliability(bins: Sequence[ReliabilityBin], words: Wording = WORDING["rows"]) -> str:
    """Draw how often decisions are right, with its 95% interval, against their confidence, by bin; below, how many there are."""

    def paint(figure: Any) -> None:
        axes = _axes(figure, left=0.6, bottom=1.35)
        counts = _axes(figure, left=0.6, bottom=PAD, top=figure.get_figheight() - 1.15)
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        confidence = [100 * cell.confidence for cell in bins]
        accuracy = [100 * cell.accuracy for cell in bins]
        low, high = zip(*(wilson(cell.accuracy, cell.n) for cell in bins), strict=True)
        axes.vlines(confidence, [100 * bound for bound in low], [100 * bound for bound in high], color=BLUE, linewidth=1.8)
        axes.plot(confidence, accuracy, "o", color=BLUE, markersize=6)
        axes.text(98, 4, "dashed: as often right as confident", ha="right", color=MUTED, fontsize=8)
        axes.set(xlim=(0, 100), ylim=(0, 102), ylabel=words.outcome)
        axes.tick_params(labelbottom=False)
        axes.grid(visible=True)
        left = [10 * min(int(cell.confidence * 10), 9) for cell in bins]
        counts.bar(left, [cell.n for cell in bins], width=9, align="edge", color=BLUE, alpha=0.55)
        for x, cell in zip(left, bins, strict=True):
            counts.text(x + 4.5, cell.n, f"{cell.n}", ha="center", va="bottom", fontsize=7, color=INK)
        counts.set(xlim=(0, 100), ylim=(0, 1.35 * max(cell.n for cell in bins)), ylabel=words.unit, xlabel=words.confidence)
        counts.set_yticks([])

    about = f"{words.outcome}, against {words.confidence}, by bin, with the number of {words.unit} in each"
    return _draw("reliability", about, 4.8, 4.3, paint)


def risk_coverage(calibration: Calibration) -> str:
    """Draw the error among answered rows over the share of rows answered, with the threshold's place."""
    allowed = 100 * (1 - calibration.threshold.target)
    risk = [100 * point.risk for point in calibration.curve]

    def paint(figure: Any) -> None:
        axes = _axes(figure, left=0.6, bottom=PAD)
        axes.plot([100 * point.coverage for point in calibration.curve], risk, color=BLUE, linewidth=1.6, drawstyle="steps-post")
        axes.axhline(allowed, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(1, allowed, "allowed", va="bottom", color=MUTED, fontsize=8)
        if calibration.accuracy:
            x, y = 100 * calibration.answered.value, 100 * (1 - calibration.accuracy.value)
            axes.plot([x, x], [0, y], color=RED, linewidth=1)
            axes.plot([x], [y], "D", color=RED, markersize=7, clip_on=False, zorder=5)
            axes.annotate(f"chosen: {y:.1f}%", (x, y), (-9, 9), textcoords="offset points", ha="right", fontsize=8.5)
        top = min(102, 1.15 * max(5, allowed, *risk))
        axes.set(xlim=(0, 101), ylim=(0, top), xlabel="rows answered, %", ylabel="wrong among the answered, %")
        axes.grid(visible=True)

    return _draw("coverage", "Error among answered rows by share of rows answered", 4.8, 4.3, paint)


def scores(histogram: ScoreHistogram, number: int) -> str:
    """Draw one scorer's scores of kept and dropped drafts; `number` tells the plots of a page apart."""

    def paint(figure: Any) -> None:
        axes = _axes(figure, left=0.55, bottom=PAD, top=0.3)
        left, width = histogram.edges[:-1], histogram.edges[1] - histogram.edges[0]
        common = {"width": width, "align": "edge", "linewidth": 0.4}
        axes.bar(left, histogram.kept, color=BLUE, edgecolor=PAGE, label="kept", **common)
        hatched = {"color": "none", "edgecolor": RED, "hatch": "/////", "label": "dropped"}
        axes.bar(left, histogram.dropped, bottom=histogram.kept, **hatched, **common)
        if histogram.cut is not None:
            axes.plot([histogram.cut] * 2, axes.get_ylim(), color=INK, linewidth=1.1, linestyle=(0, (4, 3)), label="limit")
        axes.set_xlabel(_short(histogram.scorer))
        axes.set_ylabel("drafts")
        axes.grid(visible=True, axis="y")
        _legend(axes)

    return _draw(f"scores-{number}", "Scores of kept and dropped drafts", 3.6, 2.4, paint)


def reinforcement(policies: Sequence[Reinforced]) -> str:
    """Draw the mean reward of each policy's turns, and below it how far each is from the reference where that is known."""
    apart = any(turn.kl is not None for policy in policies for turn in policy.turns)

    def paint(figure: Any) -> None:
        panels = figure.subplots(2 if apart else 1, 1, sharex=True, squeeze=False)[:, 0]
        figure.subplots_adjust(left=0.11, right=0.97, top=0.9, bottom=0.14)
        for policy, color, marker in zip(policies, (BLUE, ORANGE), "os", strict=False):
            number = range(1, len(policy.turns) + 1)
            style = {"color": color, "marker": marker, "markersize": 4.5, "linewidth": 1.4, "label": f"{policy.half} half"}
            panels[0].plot(number, [turn.reward for turn in policy.turns], **style)
            if apart:
                panels[1].plot(number, [turn.kl or 0.0 for turn in policy.turns], **style)
        panels[0].axhline(0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        panels[0].set_ylabel("mean reward")
        if apart:
            panels[1].set_ylabel("KL, nats per token")
        panels[-1].set_xlabel("turn")
        panels[-1].xaxis.get_major_locator().set_params(integer=True)
        for panel in panels:
            panel.grid(visible=True, axis="y")
        _legend(panels[0])

    return _draw("reinforcement", "Reward of each turn of reinforcement", 5.2, 3.6 if apart else 2.4, paint)


def frontier(variants: Sequence[Variant]) -> str:
    """Draw the forms of a model by size and latency, the share of macro-F1 that each keeps beside its name."""
    timed = [variant for variant in variants if variant.p50_ms is not None]

    def paint(figure: Any) -> None:
        axes = _axes(figure, left=0.55, bottom=PAD, right=1.6, top=0.15)
        for variant in timed:
            kept = "" if variant.kept is None else f" {100 * variant.kept:.1f}%"
            style = {"color": ORANGE, "markersize": 9} if variant.shipped else {"color": BLUE, "markersize": 6}
            axes.plot([variant.size_mb], [variant.p50_ms], "D" if variant.shipped else "o", **style)
            place = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "annotation_clip": False}
            axes.annotate(_short(variant.name) + kept, (variant.size_mb, variant.p50_ms), **place)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("size, MB")
        axes.set_ylabel("median of one text, ms")
        axes.grid(visible=True)

    return _draw("frontier", "Size and latency of the forms, with the macro-F1 that each keeps", 5.2, 3.0, paint)


def confusion(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Draw the confusion matrix [K, K]: the darker a cell, the larger its share of its row. Cells of count 0 are left out."""
    k = len(labels)
    size = max(2.0, min(8.0, 0.25 * k))
    font = min(8.5, 58 * size / k)
    names = [f"{_short(label)}  {i + 1}" for i, label in enumerate(labels)]
    left = _margin(names, font)

    def paint(figure: Any) -> None:
        patches = require("matplotlib.patches", extra="train")
        axes = _axes(figure, left=left, bottom=0.3, top=0.35, right=0.1)
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                if count:
                    shade = 0.15 + 0.85 * count / sum(row)
                    color = BLUE if i == j else RED
                    axes.add_artist(patches.Rectangle((j + 0.04, i + 0.04), 0.92, 0.92, color=color, alpha=shade, linewidth=0))
        axes.set(xlim=(0, k), ylim=(k, 0))
        axes.set_yticks([i + 0.5 for i in range(k)], names, fontsize=font)
        marked = range(k) if k <= CROWDED else range(4, k, 5)
        axes.set_xticks([i + 0.5 for i in marked], [str(i + 1) for i in marked], fontsize=7)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.set_xlabel("predicted (numbers as on the left)")
        for edge in range(0, k + 1, 5):
            axes.axhline(edge, color=GRID, linewidth=0.6, zorder=0)
            axes.axvline(edge, color=GRID, linewidth=0.6, zorder=0)

    label = "Confusion matrix: true labels in rows, predictions in columns"
    return _draw("confusion", label, left + size + 0.1, size + 0.65, paint)


def _draw(name: str, label: str, width: float, height: float, paint: Callable[[Any], None]) -> str:
    """Return what `paint` draws on a figure of that many inches; ids begin with `name`, so that plots share a page."""
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # it announces its cache as a warning
    matplotlib = require("matplotlib", extra="train")
    figures = require("matplotlib.figure", extra="train")
    stream = io.StringIO()
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the browser's fonts draw the text, not matplotlib's
        figure = figures.Figure(figsize=(width, height))
        paint(figure)
        blank = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=blank)
    svg = re.sub(
        r"<metadata>.*?</metadata>|<!--.*?-->", "", stream.getvalue().partition("<svg")[2].partition(">")[2], flags=re.DOTALL
    )
    opening = f'<svg role="img" aria-label="{label}" width="{96 * width:.0f}" viewBox="0 0 {72 * width:g} {72 * height:g}"'
    return f"{opening} {NAMESPACES}>" + re.sub("<[^>]*>", lambda tag: _adapt(tag[0], name), svg)


def _adapt(tag: str, name: str) -> str:
    """Return a tag of matplotlib's with its plot's own ids and the page's fonts and colours."""
    tag = re.sub(r"\bid=\"", f'id="{name}-', tag)
    tag = re.sub(r"(href=\"|url\()#", rf"\1#{name}-", tag)
    tag = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans, sans-serif)", tag)
    for color, variable in VARIABLES.items():
        tag = tag.replace(color, variable)
    return tag


def _axes(figure: Any, *, left: float, bottom: float, right: float = 0.15, top: float = 0.1) -> Any:
    """Return axes with margins in inches: matplotlib's own layout would measure Chinese text by the wrong font."""
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height))


def _interval(
    axes: Any, metric: Metric, row: float, *, color: str, marker: str, size: float = 5.5, hollow: bool = False, label: str = ""
) -> None:
    axes.plot([100 * metric.low, 100 * metric.high], [row, row], color=color, linewidth=1.8, solid_capstyle="butt")
    face = {"markerfacecolor": PAGE} if hollow else {}
    axes.plot([100 * metric.value], [row], marker, color=color, markersize=size, label=label, **face)


def _name_rows(axes: Any, names: Sequence[str]) -> None:
    """Write each row's name above it: beside it, it would leave no room for the data on a phone."""
    for row, name in enumerate(names):
        axes.text(0, row - 0.24, _short(name), transform=axes.get_yaxis_transform(), va="bottom", backgroundcolor=PAGE)
    axes.set_yticks([])
    axes.set_ylim(len(names) - 0.6, -0.75)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=True, axis="x")


def _legend(axes: Any) -> None:
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend(unique.values(), unique.keys(), loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0, handlelength=1.6)


def capital(text: str) -> str:
    """Return a text with its first letter as a capital."""
    return text[:1].upper() + text[1:]


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def one_line(text: str) -> str:
    """Return a text on one line, without characters that do not print (joiners, which shape letters and emoji, stay)."""
    return " ".join("".join(char if char.isprintable() or char in "\u200c\u200d" else " " for char in text).split())


def _short(text: str) -> str:
    """Return a label of at most `NAME_WIDTH` columns, a Chinese character being two."""
    line = one_line(text)
    if _width(line) <= NAME_WIDTH:
        return line
    while _width(line) >= NAME_WIDTH:
        line = line[:-1]
    return line + "…"


def _margin(names: Sequence[str], font: float) -> float:
    """Return the inches that the longest of some names takes."""
    return 0.25 + max((_width(name) for name in names), default=0) * 0.56 * font / 72
