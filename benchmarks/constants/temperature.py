"""The temperature of the reference's posterior, by its log loss on sets that no table of the README is about.

python -m benchmarks.constants.temperature --data DIR
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from benchmarks.cells import Cells
from benchmarks.constants.outside import read_outside
from refsynth.core.config import RunConfig
from refsynth.core.task import Task
from refsynth.core.types import FloatArray
from refsynth.kinds.metrics import accuracy, log_loss, softmax
from refsynth.models.network import TransformerEncoder
from refsynth.models.reference import EmbeddedGenerator
from refsynth.models.store import ModelStore
from refsynth.synthesis.selection.reference_classifier import calibrated
from refsynth.synthesis.selection.soft_labels import TEMPERATURE, reference_classifier

SETS = ("airline_sentiment", "multidogo_airline", "clinc20")
TEXTS = 100
GRID = (0.04, 0.05, 0.06, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6)


def measure(data: Path, cells: Cells, *, texts: int, minutes: float) -> None:
    """Ask the reference about texts that are not drawn from, set after set, until the time is up."""
    until = time.monotonic() + 60 * minutes
    store = ModelStore()
    encoder = TransformerEncoder(store.path("minilm"), max_tokens=128)
    for name in SETS:
        if cells.find(set=name) or time.monotonic() > until:
            continue
        sample = read_outside(data, name).sample(shots=0, seed=0, rows=texts)
        task = Task.of(RunConfig.parse({"language": "en", "labels": dict(sample.labels)}))
        classifier = reference_classifier(task, "en", EmbeddedGenerator(store.path("smollm2"), workers=1), encoder)
        started = time.monotonic()
        ratios = classifier.ratios([row["text"] for row in sample.test])
        truth = sample.classes(sample.test)
        rows = [[None if np.isneginf(value) else round(float(value), 5) for value in row] for row in ratios]
        cells.add({"set": name, "truth": truth.tolist(), "ratios": rows})
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)


def losses(ratios: FloatArray, truth: np.ndarray) -> list[float]:
    """Return the log loss of the posterior at each temperature, over texts whose label is on their shortlist."""
    asked = np.isfinite(ratios[np.arange(len(truth)), truth])
    scores = calibrated(ratios)
    return [log_loss(truth[asked], softmax(scores[asked] / temperature)) for temperature in GRID]


def table(cells: Cells) -> str:
    """Return the log loss at each temperature by set and over the sets, with the accuracy and the uniform posterior's loss."""
    head = ["set", "texts", "shortlisted", "accuracy", "uniform", *map(str, GRID)]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    found: list[list[float]] = []
    for one in cells.rows:
        truth = np.array(one["truth"])
        ratios = np.array([[-np.inf if value is None else value for value in row] for row in one["ratios"]], float)
        asked = np.isfinite(ratios[np.arange(len(truth)), truth])
        found.append(losses(ratios, truth))
        right = accuracy(truth, calibrated(ratios).argmax(1))
        uniform = np.log(np.isfinite(ratios[asked]).sum(1)).mean()
        figures = [f"{asked.mean():.2f}", f"{100 * right:.1f}", f"{uniform:.2f}", *(f"{loss:.3f}" for loss in found[-1])]
        lines.append(f"| {one['set']} | {len(truth)} | " + " | ".join(figures) + " |")
    if found:
        mean = np.mean(found, axis=0)
        lines.append("| mean | | | | | " + " | ".join(f"{loss:.3f}" for loss in mean) + " |")
        lines += ["", f"least at {GRID[int(mean.argmin())]} over the sets; the package has {TEMPERATURE}"]
        lines.append("by set: " + ", ".join(f"{GRID[int(np.argmin(each))]}" for each in found))
    return "\n".join(lines)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--texts", type=int, default=TEXTS)
    parser.add_argument("--minutes", type=float, default=15.0)
    given = parser.parse_args()
    cells = Cells(given.results / "constants-temperature.jsonl")
    measure(given.data, cells, texts=given.texts, minutes=given.minutes)
    print(table(cells))


if __name__ == "__main__":
    main()
