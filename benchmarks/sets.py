"""Data sets of the benchmarks: folders of JSON lines, sampled to a few labeled rows per class."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refsynth.core.errors import InputError
from refsynth.core.files import write_jsonl
from refsynth.core.hashes import derive_seed
from refsynth.core.types import Example, IntArray

Row = dict[str, Any]
"""A text with its label, or what else a kind of task has."""


@dataclass(frozen=True)
class Sample:
    """A few labeled rows and at most so many test rows."""

    train: list[Row]
    test: list[Row]
    labels: Mapping[str, str]

    @property
    def texts(self) -> list[str]:
        """The texts of the test rows."""
        return [row["text"] for row in self.test]

    @property
    def examples(self) -> list[Example]:
        """The labeled rows."""
        return [Example(f"row-{index}", row["text"], row["label"]) for index, row in enumerate(self.train)]

    @property
    def truth(self) -> IntArray:
        """The classes of the test rows [N]."""
        return self.classes(self.test)

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

    def unlabeled(self, data: Path, name: str) -> list[str]:
        """Return the other texts of the set's training file, shuffled: the file may be sorted by label."""
        known = {row["text"] for row in self.train}
        free = [row["text"] for row in read_set(data, name)[0] if row["text"] not in known]
        return [free[place] for place in np.random.default_rng(0).permutation(len(free))]


def read_set(data: Path, name: str, keys: Sequence[str] = ("text", "label")) -> tuple[list[Row], list[Row], dict[str, str]]:
    """Return the training rows and the test rows, with those of the keys that they have, and what each label means.

    Raises:
        InputError: the data set is not there.
    """
    folder = data / name
    if not (folder / "train.jsonl").is_file():
        raise InputError(
            f"{folder}: no such data set", expected="train.jsonl, test.jsonl, labels.json", remedy="name the folder with --data"
        )
    train, test = (_rows(folder / file, keys) for file in ("train.jsonl", "test.jsonl"))
    return train, test, json.loads((folder / "labels.json").read_text("utf-8"))


def read_sample(data: Path, name: str, *, shots: int, seed: int, test_rows: int = 1000) -> Sample:
    """Return `shots` training rows of each class, drawn with the seed, and the same test rows for every seed.

    Raises:
        InputError: the data set is not there, or has a label that labels.json has not.
    """
    rows, test, labels = read_set(data, name)
    if unknown := {row["label"] for row in (*rows, *test)} - set(labels):
        raise InputError(f"{data / name}: label '{min(unknown)}' is not in labels.json", expected=", ".join(labels))
    by_label: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_label[row["label"]].append(row)
    rng = np.random.default_rng(derive_seed(seed, "bench", name))
    train = [by_label[label][i] for label in labels for i in rng.permutation(len(by_label[label]))[:shots]]
    return Sample(train, drawn(test, test_rows), labels)


def drawn(test: Sequence[Row], most: int) -> list[Row]:
    """Return at most so many test rows, always the same, in their order."""
    return [test[place] for place in sorted(np.random.default_rng(0).permutation(len(test))[:most])]


def _rows(path: Path, keys: Sequence[str]) -> list[Row]:
    with path.open(encoding="utf-8") as stream:
        return [{key: row[key] for key in keys if key in row} for row in map(json.loads, stream)]
