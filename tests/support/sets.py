"""Rows with any number of labels."""

import random

from refsynth.core.labelset import join_labels
from refsynth.core.types import Example

LABELS = {"late": "something arrives late", "broken": "something is damaged", "money": "money is asked back"}


WORDS = {"late": ["late", "delayed", "waiting"], "broken": ["broken", "cracked", "damaged"], "money": ["refund", "money", "back"]}


def rows_(n, seed=0):
    rng = random.Random(seed)
    for i in range(n):
        some = [label for label in LABELS if rng.random() < 0.45]
        said = [rng.choice(WORDS[label]) for label in some] or ["hello there"]
        yield {"text": f"{' and '.join(said)} parcel {i}", "label": some}


def examples_(n):
    return [Example(f"row-{i}", row["text"], join_labels(row["label"], list(LABELS))) for i, row in enumerate(rows_(n))]
