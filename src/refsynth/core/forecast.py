"""How long a run will take, told before its long parts from what was measured: earlier runs in its folder, and the first fit."""

from __future__ import annotations

from refsynth.core.duration import SHORT, about
from refsynth.core.run import RunFolder, read_jsonl, seconds_of


def run_forecast(folder: RunFolder) -> str:
    """Return how long the steps of a folder took when they were last made; nothing where that was short or none was."""
    seconds = sum(_measured(folder).values())
    if seconds < SHORT:
        return ""
    return f"time: the steps here took {about(seconds)} when they were last made; what nothing has changed is not made again"


def gate_forecast(folder: RunFolder, fits: int) -> str:
    """Return how long the fits of the gate will take, as each is like the one to all rows; nothing where that is short."""
    each = _measured(folder).get("fit", 0.0)
    if fits * each < SHORT:
        return ""
    return f"time: {about(fits * each)} for the gate, which fits {fits} times what took {each:.0f} seconds"


def _measured(folder: RunFolder) -> dict[str, float]:
    events = folder.path / "events.jsonl"
    return seconds_of(read_jsonl(events)) if events.is_file() else {}
