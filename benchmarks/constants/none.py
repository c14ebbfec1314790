"""How a few texts about none of the labels are learned from: which of the simplest ways finds more of their like?

    python -m benchmarks.constants.none DATA [seeds]

DATA holds banking77, clinc150 with its out-of-scope files, and airline_tweets. None of these is in the tables of the README, and
the out-of-scope questions are those of clinc150's training and validation files. Each way has a bar that 5% of held-out training
rows are below (two bars of 2.5% where it looks at two scores). What is learned from are 8 or 32 out-of-scope questions, 8
automatic replies, or 8 or 32 texts of labels that the task has not. What is asked about are 200 rows, others of the same kind,
and some of another kind. Cells are appended to benchmarks/results/constants-none.jsonl.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from benchmarks.cells import Cells
from benchmarks.constants.strange import AWAY
from refsynth.core.types import FloatArray, IntArray
from refsynth.models.encoders import encoder_for
from refsynth.models.network import TransformerEncoder
from refsynth.models.store import ModelStore

TASKS = (("clinc150", 10), ("banking77", 10), ("airline_tweets", 3), ("clinc150", 2))
"""Sets, each with how many of its labels are drawn; of few labels there are 16 rows each, else 8."""

FOLDS, SHARE = 4, 0.05
Embed = Callable[[Sequence[str]], FloatArray]


class Case(NamedTuple):
    """Labeled texts, test texts, texts to learn from, and those that are asked about by name."""

    texts: list[str]
    labels: IntArray
    none: list[str]
    asked: dict[str, list[str]]


def main(data: Path, seeds: int = 3) -> None:
    """Measure the cells that are missing."""
    cells = Cells(Path("benchmarks/results/constants-none.jsonl"))
    spec = encoder_for("en")
    encoder = TransformerEncoder(ModelStore().path(spec.name), prefix=spec.prefix, max_tokens=128)
    for name, k in TASKS:
        for seed in range(seeds):
            for kind, case in _cases(data, name, k, seed).items():
                for features in ("frozen", "tfidf"):
                    here = {"features": features, "set": name, "labels": k, "seed": seed, "none": kind}
                    if not cells.find(**here):
                        for way, found in _measured(case, encoder.encode if features == "frozen" else None, seed).items():
                            cells.add({**here, "way": way, **found})
    _show(cells.rows)


def _cases(data: Path, name: str, k: int, seed: int) -> dict[str, Case]:
    train, test = _rows(data, name)
    rng, labels = np.random.default_rng(seed), sorted({label for _, label in train})
    chosen = list(rng.permutation(labels)[:k])
    by_label = defaultdict(list)
    for text, label in train:
        by_label[label].append(text)
    shots = 8 if k > 3 else 16
    drawn = [(text, place) for place, label in enumerate(chosen) for text in rng.permutation(by_label[label])[:shots]]
    shown = list(rng.permutation([text for text, label in test if label in chosen])[:200])
    few, more = (_questions(data, part) for part in ("train", "val"))
    few, replies = list(rng.permutation(few)), list(rng.permutation(AWAY))
    near = list(rng.permutation([text for label in labels if label not in chosen for text in by_label[label][:5]]))
    kinds = {
        "8 questions": (few[:8], more, AWAY),
        "32 questions": (few[:32], more, AWAY),
        "8 replies": (replies[:8], replies[8:], more),
    }
    if len(near) > 60:
        kinds |= {f"{n} of other labels": (near[:n], near[40:140], more) for n in (8, 32)}
    texts, classes = [text for text, _ in drawn], np.array([place for _, place in drawn])
    return {
        kind: Case(texts, classes, none, {"rows": shown, "same": list(same), "other": list(other)})
        for kind, (none, same, other) in kinds.items()
    }


def _rows(data: Path, name: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    if name == "airline_tweets":
        rows = [(row["text"], row["sentiment"]) for row in _lines(data / name / "stream.jsonl")]
        order = np.random.default_rng(5).permutation(len(rows))
        return [rows[place] for place in order[: len(rows) // 2]], [rows[place] for place in order[len(rows) // 2 :]]
    train, test = ([(row["text"], row["label"]) for row in _lines(data / name / f"{part}.jsonl")] for part in ("train", "test"))
    return train, test


def _questions(data: Path, part: str) -> list[str]:
    return [row["text"] for row in _lines(data / "clinc150" / f"oos_{part}.jsonl")]


def _lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def _measured(case: Case, embed: Embed | None, seed: int) -> dict[str, dict[str, float]]:
    """Return the share of marked texts of each kind, by way."""
    of_row = np.zeros(len(case.texts), int)
    for label in np.unique(case.labels):
        mine = np.random.default_rng(seed).permutation(np.flatnonzero(case.labels == label))
        of_row[mine] = (np.arange(len(mine)) + label) % FOLDS
    held: dict[str, FloatArray] = {}
    for fold in range(FOLDS):
        mine = of_row == fold
        known = case._replace(
            texts=[text for text, out in zip(case.texts, mine, strict=True) if not out],
            labels=case.labels[~mine],
            none=[text for place, text in enumerate(case.none) if place % FOLDS != fold],
            asked={"held": [text for text, out in zip(case.texts, mine, strict=True) if out]},
        )
        for way, values in _scores(known, embed)["held"].items():
            held.setdefault(way, np.zeros((len(mine), values.shape[1])))[mine] = values
    found: dict[str, dict[str, float]] = {}
    for what, scores in _scores(case, embed).items():
        for way, values in scores.items():
            bars = [0.0] if way.endswith("likeliest") else [_bar(each, SHARE / values.shape[1]) for each in held[way].T]
            found.setdefault(way, {})[what] = float((values < bars).any(1).mean())
    return found


def _bar(values: FloatArray, share: float) -> float:
    rank = int(share * (len(values) + 1))
    return float(np.sort(values)[rank - 1]) if rank else -np.inf


def _scores(case: Case, embed: Embed | None) -> dict[str, dict[str, FloatArray]]:
    """Return scores [N, S] of the texts that are asked about, by their kind and by way: the lower, the stranger."""
    if embed is None:
        vectors = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2)).fit(case.texts)
        embed = lambda texts: vectors.transform(texts).toarray()  # noqa: E731
    rows, none = embed(case.texts), embed(case.none)
    means = np.stack([_unit(rows[case.labels == label].sum(0)) for label in np.unique(case.labels)], 1)
    both, mean = np.concatenate([rows, none]), _unit(none.sum(0))
    of_rows = np.repeat([1, 0], [len(rows), len(none)])
    direction = _fit(both, of_rows)
    one_more = _fit(both, np.concatenate([case.labels, np.full(len(none), 10**6)]))
    out = {}
    for what, texts in case.asked.items():
        asked = embed(texts)
        like, said, logits = (asked @ means).max(1), direction.decision_function(asked), one_more.decision_function(asked)
        scores = {
            "likeness": like,
            "likeness - mean": like - asked @ mean,
            "likeness - mean / 2": like - asked @ mean / 2,
            "likeness - nearest / 2": like - (asked @ none.T).max(1) / 2,
            "direction": said,
            "a label more, with a bar": logits[:, :-1].max(1) - logits[:, -1],
            "a label more, the likeliest": logits[:, :-1].max(1) - logits[:, -1],
        }
        out[what] = {way: values[:, None] for way, values in scores.items()} | {"likeness, direction": np.stack([like, said], 1)}
    return out


def _fit(features: FloatArray, classes: IntArray) -> LogisticRegression:
    return LogisticRegression(C=10, class_weight="balanced", max_iter=1000).fit(features, classes)


def _unit(vector: FloatArray) -> FloatArray:
    length = np.linalg.norm(vector)
    return np.asarray(vector / length if length else vector)


def _show(rows: Sequence[dict[str, Any]]) -> None:
    """Print the mean shares by features and way."""
    for features in ("frozen", "tfidf"):
        for way in dict.fromkeys(row["way"] for row in rows):
            mine = [row for row in rows if (row["features"], row["way"]) == (features, way)]
            print(
                features, way, *(f"{what} {100 * np.mean([row[what] for row in mine]):.0f}" for what in ("rows", "same", "other"))
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
