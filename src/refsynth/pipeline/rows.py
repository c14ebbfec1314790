"""The first step: the user's rows, read, cleaned of what cannot be used, and put into folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from refsynth.core.run import RunFolder, file_digest, read_json, read_jsonl, write_json, write_jsonl
from refsynth.core.types import Example, IntArray
from refsynth.data.account import SkippedRow, write_skipped
from refsynth.data.io import read_examples
from refsynth.data.language import detect_language
from refsynth.data.split import fold_of
from refsynth.data.text import near_groups
from refsynth.task import Task


@dataclass(frozen=True)
class Rows:
    """The seed examples with their folds [N], the language, and what was left out of the file."""

    examples: tuple[Example, ...]
    folds: IntArray
    language: str
    file: Mapping[str, Any]

    @property
    def per_label(self) -> Counter[str]:
        """How many rows each label has."""
        return Counter(example.label for example in self.examples)

    @property
    def fold_of(self) -> dict[str, int]:
        """The fold of each row, by id."""
        return {row.id: int(fold) for row, fold in zip(self.examples, self.folds, strict=True)}

    @property
    def judged(self) -> bool:
        """Whether there are enough rows to hold some out: at least two labels with two rows each."""
        return sum(count >= 2 for count in self.per_label.values()) >= 2


def read_rows(task: Task, folder: RunFolder, *, skip_bad: bool) -> Rows:
    """Return the rows of the task's training file, from the step cache where they are there already.

    Raises:
        DataError: the file cannot be used.
    """
    config = task.config
    key = {
        "file": None if task.train is None else file_digest_or_none(task.train),
        "skip_bad": skip_bad,
        "config": config.digest_of("labels", "language", "seed"),
        "columns": config.data.model_dump(mode="json", exclude={"train", "test"}),
        "folds": config.gate.folds,
    }

    def make(out: Path) -> None:
        examples, file = _load(task, skip_bad=skip_bad)
        texts = [example.text for example in examples]
        language = config.language
        if language == "auto":
            language = detect_language([*texts, *task.descriptions.values()])
        folds = fold_of(examples, folds=config.gate.folds, seed=config.seed, groups=near_groups(texts))
        write_jsonl(out / "examples.jsonl", [example.to_json() for example in examples])
        write_json(out / "facts.json", {"language": language, "folds": folds.tolist(), "file": file})

    done = folder.step("rows", key, make)
    facts = read_json(done / "facts.json")
    if skipped := facts["file"].get("skipped"):
        write_skipped(folder.path / "skipped.csv", [SkippedRow(**row) for row in skipped])
    examples = tuple(Example.from_json(record) for record in read_jsonl(done / "examples.jsonl"))
    return Rows(examples, np.array(facts["folds"], int), facts["language"], facts["file"])


def file_digest_or_none(path: Path) -> str | None:
    """Return the sha256 of a file, or None where it cannot be read: reading it then gives the proper error."""
    try:
        return file_digest(path)
    except OSError:
        return None


def _load(task: Task, *, skip_bad: bool) -> tuple[tuple[Example, ...], dict[str, Any]]:
    if task.train is None:
        return (), {}
    data = task.config.data
    loaded = read_examples(
        task.train, labels=task.labels, columns=data.columns, delimiter=data.delimiter, encoding=data.encoding, skip_bad=skip_bad
    )
    facts = {
        "name": task.train.name,
        "format": ", ".join(part for part in (loaded.format, loaded.encoding, loaded.delimiter) if part),
        "rows": loaded.rows,
        "skipped": [asdict(row) for row in loaded.skipped],
        "notes": list(loaded.notes),
    }
    return loaded.examples, facts
