"""Forecasts of how long a run will take, from what was measured: earlier runs in its folder, and the first fit."""

from __future__ import annotations

from refsynth.core.duration import SHORT, about
from refsynth.core.errors import counted
from refsynth.core.files import read_jsonl
from refsynth.core.run import RunFolder, seconds_of


def run_forecast(folder: RunFolder) -> str:
    """Return how long the steps of a folder took when they were last made; empty if that was short or no step was made."""
    seconds = sum(_measured(folder).values())
    if seconds < SHORT:
        return ""
    return f"time: the steps here took {about(seconds)} when they were last made; steps that nothing has changed are not repeated"


def gate_forecast(folder: RunFolder, fits: int, *, models: int) -> str:
    """Return the least time that the gate will take; empty if it is short, or if nothing was measured.

    Args:
        folder: of the run.
        fits: how often the gate fits.
        models: how many models it fits each time that take at least as long as the judge took.
    """
    seconds = fits * models * _measured(folder).get("judge", 0.0)
    return f"time: {about(seconds)} or more for the gate, which fits {counted(fits, 'time')}" if seconds >= SHORT else ""


def _measured(folder: RunFolder) -> dict[str, float]:
    events = folder.path / "events.jsonl"
    return seconds_of(read_jsonl(events)) if events.is_file() else {}
