"""Draws figures as inline SVG, deterministic for a version of matplotlib.

Text stays text, so that the page's fonts draw it, Chinese included. Colors are CSS variables of the page with fallbacks, so that
one plot serves light mode, dark mode and print. Colors: Okabe and Ito (2008). Knows nothing of what a plot shows.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from refsynth.core.extras import require
from refsynth.core.types import Metric
from refsynth.evaluation.caption import columns, short

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
PAD = 0.55  # inches below the axes, for ticks and their title


def draw(name: str, label: str, width: float, height: float, paint: Callable[[Any], None]) -> str:
    """Return the SVG of what `paint` draws on a figure of `width` by `height` inches.

    Ids begin with `name`, so that several plots can share a page; `label` is read to blind users.
    """
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
    """Return a tag with ids of its own plot, and the fonts and colors of the page."""
    tag = re.sub(r"\bid=\"", f'id="{name}-', tag)
    tag = re.sub(r"(href=\"|url\()#", rf"\1#{name}-", tag)
    tag = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans, sans-serif)", tag)
    for color, variable in VARIABLES.items():
        tag = tag.replace(color, variable)
    return tag


def axes(figure: Any, *, left: float, bottom: float, right: float = 0.15, top: float = 0.1) -> Any:
    """Return axes with margins in inches: matplotlib's own layout would measure Chinese text in the wrong font."""
    width, height = figure.get_size_inches()
    return figure.add_axes((left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height))


def interval(
    axes: Any, metric: Metric, row: float, *, color: str, marker: str, size: float = 5.5, hollow: bool = False, label: str = ""
) -> None:
    """Draw a metric and its interval, in percent, as a marker on a line at the height of a row."""
    axes.plot([100 * metric.low, 100 * metric.high], [row, row], color=color, linewidth=1.8, solid_capstyle="butt")
    face = {"markerfacecolor": PAGE} if hollow else {}
    axes.plot([100 * metric.value], [row], marker, color=color, markersize=size, label=label, **face)


def name_rows(axes: Any, names: Sequence[str]) -> None:
    """Write each row's name above the row: on a phone, there is no room beside it."""
    for row, name in enumerate(names):
        axes.text(0, row - 0.24, short(name), transform=axes.get_yaxis_transform(), va="bottom", backgroundcolor=PAGE)
    axes.set_yticks([])
    axes.set_ylim(len(names) - 0.6, -0.75)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=True, axis="x")


def legend(axes: Any) -> None:
    """Write a legend above the axes, with each label once."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend(unique.values(), unique.keys(), loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0, handlelength=1.6)


def margin(names: Sequence[str], font: float) -> float:
    """Return the width of the longest name in inches, with a margin."""
    return 0.25 + max((columns(name) for name in names), default=0) * 0.56 * font / 72
