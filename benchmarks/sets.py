"""Data sets of the benchmarks: folders of JSON lines, sampled to a few labelled rows per class."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refsynth.core.errors import InputError
from refsynth.core.run import derive_seed, write_jsonl
from refsynth.core.types import IntArray


@dataclass(frozen=True)
class Sample:
    """A few labelled rows and at most so many test rows, as lists of {"text", "label"}, or of what else a kind of task has."""

    train: list[dict[str, Any]]
    test: list[dict[str, Any]]
    labels: Mapping[str, str]

    def classes(self, rows: Sequence[Mapping[str, Any]]) -> IntArray:
        """Return the indices of the rows' labels [N]."""
        order = {label: index for index, label in enumerate(self.labels)}
        return np.array([order[row["label"]] for row in rows])

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write train.jsonl and test.jsonl and return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        write_jsonl(folder / "train.jsonl", self.train)
        write_jsonl(folder / "test.jsonl", self.test)
        return folder / "train.jsonl", folder / "test.jsonl"


def read_sample(data: Path, name: str, *, shots: int, seed: int, test_rows: int = 1000) -> Sample:
    """Return `shots` training rows of each class, drawn with the seed, and the same test rows for every seed.

    Raises:
        InputError: the data set is not there.
    """
    folder = data / name
    if not (folder / "train.jsonl").is_file():
        raise InputError(
            f"{folder}: no such data set", expected="train.jsonl, test.jsonl, labels.json", remedy="name the folder with --data"
        )
    labels = json.loads((folder / "labels.json").read_text("utf-8"))
    by_label: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _rows(folder / "train.jsonl"):
        by_label[row["label"]].append(row)
    rng = np.random.default_rng(derive_seed(seed, "bench", name))
    train = [by_label[label][i] for label in labels for i in rng.permutation(len(by_label[label]))[:shots]]
    test = list(_rows(folder / "test.jsonl"))
    picked = np.random.default_rng(0).permutation(len(test))[:test_rows]
    return Sample(train, [test[i] for i in sorted(picked)], labels)


def _rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        rows = [json.loads(line) for line in stream]
    return [{"text": row["text"], "label": row["label"]} for row in rows]
