"""How long a run will take, told before its long parts from what was measured: earlier runs in its folder, and the first fit."""

from __future__ import annotations

from refsynth.core.duration import SHORT, about
from refsynth.core.errors import counted
from refsynth.core.run import RunFolder, read_jsonl, seconds_of


def run_forecast(folder: RunFolder) -> str:
    """Return how long the steps of a folder took when they were last made; nothing where that was short or none was."""
    seconds = sum(_measured(folder).values())
    if seconds < SHORT:
        return ""
    return f"time: the steps here took {about(seconds)} when they were last made; what nothing has changed is not made again"


def gate_forecast(folder: RunFolder, fits: int, *, models: int) -> str:
    """Return how long the gate will take at least; nothing where that is short, or nothing was measured.

    Args:
        folder: of the run.
        fits: how often the gate fits.
        models: how many it fits each time that take at least as long as the judge did.
    """
    seconds = fits * models * _measured(folder).get("judge", 0.0)
    return f"time: {about(seconds)} or more for the gate, which fits {counted(fits, 'time')}" if seconds >= SHORT else ""


def _measured(folder: RunFolder) -> dict[str, float]:
    events = folder.path / "events.jsonl"
    return seconds_of(read_jsonl(events)) if events.is_file() else {}
