"""What is read of long texts: the beginning, beginning and end, or all in windows. Chooses the default of `training.windows`.

    python -m benchmarks.constants.windows medquad_subset.jsonl

The file has a question and its answer a line, with the type of the question. The answers are the texts, and the types that have
rows enough the labels. No table of the README is about this set. Frozen encoder, 8 rows a label; the draws are paired.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

from refsynth.core.windows import Windows
from refsynth.learning.head import HEAD_STRENGTH, fit_head
from refsynth.models.network import TransformerEncoder
from refsynth.models.store import ModelStore

WAYS: tuple[Windows, ...] = ("cut", "head_tail", "mean")
PER_LABEL, TEST, DRAWS, LEAST = 8, 40, 20, 60
"""Rows of a label to learn from and to measure on, draws, and the fewest rows of a label that takes part."""


def main(path: Path) -> None:
    """Print a table: accuracy on the mean over draws, and each way less `cut`, paired, with its 95% interval over draws."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    counts = Counter(row["qtype"] for row in rows if row["answer"].strip())
    labels = sorted(label for label, count in counts.items() if count >= LEAST)
    rows = [row for row in rows if row["qtype"] in labels and row["answer"].strip()]
    truth = np.array([labels.index(row["qtype"]) for row in rows])
    rng = np.random.default_rng(0)
    kept = np.concatenate([rng.permutation(np.flatnonzero(truth == k))[: 2 * TEST] for k in range(len(labels))])
    texts, truth = [rows[place]["answer"] for place in kept], truth[kept]
    print(f"{len(labels)} labels, {len(texts)} texts, {np.median([len(text.split()) for text in texts]):.0f} words in the median")
    found = {}
    for way in WAYS:
        encoder = TransformerEncoder(ModelStore().path("minilm"), max_tokens=128, windows=way)
        started = time.perf_counter()
        features = np.asarray(encoder.encode(texts), float)
        found[way] = (_accuracies(features, truth, len(labels)), time.perf_counter() - started)
    for way, (scores, seconds) in found.items():
        less = scores - found["cut"][0]
        width = 1.96 * less.std(ddof=1) / np.sqrt(len(less))
        print(f"{way:10} {100 * scores.mean():.1f}  over cut {100 * less.mean():+.1f} +- {100 * width:.1f}  {seconds:.0f} s")


def _accuracies(features: np.ndarray, truth: np.ndarray, k: int) -> np.ndarray:
    scores = []
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw + 1)
        order = [rng.permutation(np.flatnonzero(truth == each)) for each in range(k)]
        train = np.concatenate([each[:PER_LABEL] for each in order])
        test = np.concatenate([each[PER_LABEL : PER_LABEL + TEST] for each in order])
        head = fit_head(features[train], truth[train], k, strength=HEAD_STRENGTH)
        scores.append((np.asarray(head.logits(features[test])).argmax(1) == truth[test]).mean())
    return np.array(scores)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
