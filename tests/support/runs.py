"""A small task of two labels, for whole runs in seconds."""

import json
import random

from refsynth.core.config import RunConfig
from refsynth.core.observe import Silent
from refsynth.core.task import Task

WORDS = {
    "late": ["parcel", "late", "courier", "waiting", "tracking", "week", "delivery", "arrive"],
    "broken": ["broken", "crack", "pieces", "shattered", "dent", "scratched", "faulty", "split"],
}


class Told(Silent):
    def __init__(self):
        self.notes, self.stages = [], []

    def stage(self, name, line):
        self.stages.append(name)

    def note(self, line):
        self.notes.append(line)


def write_rows(path, rows, seed):
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as stream:
        for i in range(rows):
            for label, words in WORDS.items():
                text = f"number {seed}{i} " + " ".join(rng.sample(words, 5))
                stream.write(json.dumps({"text": text, "label": label}) + "\n")


def make_task(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "train.jsonl", 6, 1)
    write_rows(folder / "test.jsonl", 10, 2)
    return task_in(folder, **changes)


def task_in(folder, **changes):
    """Return the task of a folder whose rows are there."""
    tree = {
        "language": "en",
        "labels": {"late": "the parcel is late", "broken": "the thing is broken"},
        "data": {"train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl")},
        "reference": "echo",
        "synthesis": {"drafts": 60, "per_prompt": 4},
        "learners": ["tfidf", "frozen"],
        "gate": {"folds": 3},
    }
    return Task.of(RunConfig.parse(tree | changes))
