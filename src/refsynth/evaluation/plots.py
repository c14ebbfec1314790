"""The plots of a report: each function takes values and returns inline SVG, drawn on a `canvas`.

Series differ in shape or hatching as well as in color.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from refsynth.core.extras import require
from refsynth.evaluation import canvas
from refsynth.evaluation.canvas import BLUE, GRID, INK, MUTED, ORANGE, PAD, PAGE, RED
from refsynth.evaluation.caption import capital, short
from refsynth.evaluation.confidence import CalibrationReport
from refsynth.evaluation.origins import Reinforced, ScoreHistogram
from refsynth.evaluation.sections import Comparison, System, Variant
from refsynth.evaluation.wording import WORDING, Wording
from refsynth.kinds.metrics import ReliabilityBin

CROWDED = 40


def results(systems: Sequence[System]) -> str:
    """Draw the score of each system with its 95% interval."""
    lines = [(system.name, system.score, system.shipped) for system in systems if system.score]
    measure = lines[0][1].name

    def paint(figure: Any) -> None:
        axes = canvas.axes(figure, left=0.15, bottom=PAD)
        for row, (_, metric, shipped) in enumerate(lines):
            canvas.interval(axes, metric, row, color=BLUE, marker="D" if shipped else "o", size=7 if shipped else 5.5)
        canvas.name_rows(axes, [name for name, _, _ in lines])
        axes.set_xlabel(f"{measure}, % (95% interval)")

    label = f"{capital(measure)} of each system with its 95% interval"
    return canvas.draw("results", label, 5.2, 0.44 * len(lines) + 0.75, paint)


def gate(comparisons: Sequence[Comparison], *, measure: str = "accuracy") -> str:
    """Draw the score of each learner without and, if measured, with drafts, and beside it the paired gain."""
    names = [line.learner for line in comparisons]

    def paint(figure: Any) -> None:
        axes = canvas.axes(figure, left=0.15, bottom=PAD, top=0.35, right=2.75)
        gains = canvas.axes(figure, left=2.85, bottom=PAD, top=0.35)
        for row, line in enumerate(comparisons):
            canvas.interval(axes, line.real, row - 0.12, color=ORANGE, marker="o", hollow=True, label="real rows only")
            if line.augmented and line.gain:
                canvas.interval(axes, line.augmented, row + 0.14, color=BLUE, marker="o", label="real rows + drafts")
                canvas.interval(gains, line.gain, row, color=BLUE, marker="D")
        canvas.name_rows(axes, names)
        canvas.name_rows(gains, [""] * len(names))
        gains.axvline(0, color=INK, linewidth=0.9)
        axes.set_xlabel(f"{measure}, % (95% interval)")
        gains.set_xlabel("paired gain, points (95% interval)")
        canvas.legend(axes)

    label = f"{capital(measure)} of each learner without and with drafts, and the paired gain"
    return canvas.draw("gate", label, 5.4, 0.62 * len(names) + 1.0, paint)


def reliability(bins: Sequence[ReliabilityBin], words: Wording = WORDING["rows"]) -> str:
    """Draw the accuracy of decisions, with its 95% interval, by bins of confidence; below it the size of each bin."""

    def paint(figure: Any) -> None:
        axes = canvas.axes(figure, left=0.6, bottom=1.35)
        counts = canvas.axes(figure, left=0.6, bottom=PAD, top=figure.get_figheight() - 1.15)
        axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        confidence = [100 * cell.confidence for cell in bins]
        accuracy = [100 * cell.accuracy for cell in bins]
        low, high = ([100 * getattr(cell, side) for cell in bins] for side in ("low", "high"))
        axes.vlines(confidence, low, high, color=BLUE, linewidth=1.8)
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
    return canvas.draw("reliability", about, 4.8, 4.3, paint)


def risk_coverage(calibration: CalibrationReport) -> str:
    """Draw the error on answered rows over the share of rows answered, and mark the threshold."""
    chosen = calibration.threshold
    allowed = 0.0 if chosen is None else 100 * (1 - chosen.target)
    risk = [100 * point.risk for point in calibration.curve]

    def paint(figure: Any) -> None:
        axes = canvas.axes(figure, left=0.6, bottom=PAD)
        axes.plot([100 * point.coverage for point in calibration.curve], risk, color=BLUE, linewidth=1.6, drawstyle="steps-post")
        if chosen is not None:
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

    return canvas.draw("coverage", "Error among answered rows by share of rows answered", 4.8, 4.3, paint)


def scores(histogram: ScoreHistogram, number: int) -> str:
    """Draw the histogram of a scorer's scores of kept and dropped drafts; `number` makes its ids unique on the page."""

    def paint(figure: Any) -> None:
        axes = canvas.axes(figure, left=0.55, bottom=PAD, top=0.3)
        left, width = histogram.edges[:-1], histogram.edges[1] - histogram.edges[0]
        common = {"width": width, "align": "edge", "linewidth": 0.4}
        axes.bar(left, histogram.kept, color=BLUE, edgecolor=PAGE, label="kept", **common)
        hatched = {"color": "none", "edgecolor": RED, "hatch": "/////", "label": "dropped"}
        axes.bar(left, histogram.dropped, bottom=histogram.kept, **hatched, **common)
        axes.set_xlabel(short(histogram.scorer))
        axes.set_ylabel("drafts")
        axes.grid(visible=True, axis="y")
        canvas.legend(axes)

    return canvas.draw(f"scores-{number}", "Scores of kept and dropped drafts", 3.6, 2.4, paint)


def reinforcement(policies: Sequence[Reinforced]) -> str:
    """Draw the mean reward of each policy by turn, and below it the divergence from the reference, if known."""
    has_kl = any(turn.kl is not None for policy in policies for turn in policy.turns)

    def paint(figure: Any) -> None:
        panels = figure.subplots(2 if has_kl else 1, 1, sharex=True, squeeze=False)[:, 0]
        figure.subplots_adjust(left=0.11, right=0.97, top=0.9, bottom=0.14)
        for policy, color, marker in zip(policies, (BLUE, ORANGE), "os", strict=False):
            number = range(1, len(policy.turns) + 1)
            style = {"color": color, "marker": marker, "markersize": 4.5, "linewidth": 1.4, "label": f"{policy.half} half"}
            panels[0].plot(number, [turn.reward for turn in policy.turns], **style)
            if has_kl:
                panels[1].plot(number, [turn.kl or 0.0 for turn in policy.turns], **style)
        panels[0].axhline(0, color=MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
        panels[0].set_ylabel("mean reward")
        if has_kl:
            panels[1].set_ylabel("KL, nats per token")
        panels[-1].set_xlabel("turn")
        panels[-1].xaxis.get_major_locator().set_params(integer=True)
        for panel in panels:
            panel.grid(visible=True, axis="y")
        canvas.legend(panels[0])

    return canvas.draw("reinforcement", "Reward of each turn of reinforcement", 5.2, 3.6 if has_kl else 2.4, paint)


def frontier(variants: Sequence[Variant]) -> str:
    """Draw the forms of a model by size and latency, with the share of macro-F1 that each keeps."""
    timed = [variant for variant in variants if variant.p50_ms is not None]

    def paint(figure: Any) -> None:
        axes = canvas.axes(figure, left=0.55, bottom=PAD, right=1.6, top=0.15)
        for variant in timed:
            kept = "" if variant.kept is None else f" {100 * variant.kept:.1f}%"
            style = {"color": ORANGE, "markersize": 9} if variant.shipped else {"color": BLUE, "markersize": 6}
            axes.plot([variant.size_mb], [variant.p50_ms], "D" if variant.shipped else "o", **style)
            place = {"xytext": (7, 0), "textcoords": "offset points", "va": "center", "annotation_clip": False}
            axes.annotate(short(variant.name) + kept, (variant.size_mb, variant.p50_ms), **place)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("size, MB")
        axes.set_ylabel("median of one text, ms")
        axes.grid(visible=True)

    return canvas.draw("frontier", "Size and latency of the forms, with the macro-F1 that each keeps", 5.2, 3.0, paint)


def confusion(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Draw the confusion matrix [K, K]. A darker cell is a larger share of its row; cells of count 0 are empty."""
    k = len(labels)
    size = max(2.0, min(8.0, 0.25 * k))
    font = min(8.5, 58 * size / k)
    names = [f"{short(label)}  {i + 1}" for i, label in enumerate(labels)]
    left = canvas.margin(names, font)

    def paint(figure: Any) -> None:
        patches = require("matplotlib.patches", extra="train")
        axes = canvas.axes(figure, left=left, bottom=0.3, top=0.35, right=0.1)
        for i, row in enumerate(counts):
            for j, count in enumerate(row):
                if count:
                    shade = 0.15 + 0.85 * count / sum(row)
                    color = BLUE if i == j else RED
                    axes.add_artist(patches.Rectangle((j + 0.04, i + 0.04), 0.92, 0.92, color=color, alpha=shade, linewidth=0))
        axes.set(xlim=(0, k), ylim=(k, 0))
        axes.set_yticks([i + 0.5 for i in range(k)], names, fontsize=font)
        ticks = range(k) if k <= CROWDED else range(4, k, 5)
        axes.set_xticks([i + 0.5 for i in ticks], [str(i + 1) for i in ticks], fontsize=7)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        axes.set_xlabel("predicted (numbers as on the left)")
        for edge in range(0, k + 1, 5):
            axes.axhline(edge, color=GRID, linewidth=0.6, zorder=0)
            axes.axvline(edge, color=GRID, linewidth=0.6, zorder=0)

    label = "Confusion matrix: true labels in rows, predictions in columns"
    return canvas.draw("confusion", label, left + size + 0.1, size + 0.65, paint)
