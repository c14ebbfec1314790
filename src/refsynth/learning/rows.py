"""The first step: reading the labeled rows, leaving out those that cannot be used, and dealing them into folds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refsynth.core.errors import counted
from refsynth.core.files import read_json, read_jsonl, write_json, write_jsonl
from refsynth.core.record import file_digest_or_none
from refsynth.core.run import RunFolder
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.task import Task
from refsynth.core.types import Example, IntArray
from refsynth.data.account import RowPlace, SkippedRow, describe_skipped, write_skipped
from refsynth.data.io import LoadedRows, read_examples
from refsynth.data.language import detect_language
from refsynth.data.row_reader import Spans
from refsynth.data.split import split_rows
from refsynth.data.text import normalize
from refsynth.kinds import KINDS, Kind

LANGUAGE_SAMPLE = 1_000
"""Characters of a text that language detection reads."""


@dataclass(frozen=True)
class Rows:
    """The N seed examples with their folds, the language, and facts about the files.

    Attributes:
        examples: the rows.
        folds: the fold of each row [N].
        language: ISO 639-1 code of the texts.
        file: facts about the files for the report, such as the rows that were left out.
        kind: the task kind.
        groups: the group of near-duplicates of each row [N].
        honest: whether models can be measured on the folds, see `data.split`.
        divided: how many rows may have near-duplicates in another fold.
        places: the place of each row in its file, by id.
    """

    examples: tuple[Example, ...]
    folds: IntArray
    language: str
    file: Mapping[str, Any]
    kind: Kind
    groups: IntArray
    honest: bool = True
    divided: int = 0
    places: Mapping[str, RowPlace] = field(default_factory=dict)

    @property
    def per_label(self) -> Counter[str]:
        """The number of rows of each label."""
        return Counter(name for example in self.examples for name in self.kind.names(example.label))

    @property
    def fold_of(self) -> dict[str, int]:
        """The fold of each row, by id."""
        return {row.id: int(fold) for row, fold in zip(self.examples, self.folds, strict=True)}

    @property
    def measurable(self) -> bool:
        """Whether models can be measured on held-out rows: enough labels have two rows, and the folds are honest."""
        return self.honest and self._paired >= self.kind.least

    @property
    def _paired(self) -> int:
        """The number of labels that have a row to hold out and one to train on."""
        return sum(count >= 2 for count in self.per_label.values())

    @property
    def why_unmeasurable(self) -> str:
        """Why no rows can be held out."""
        paired, least = self._paired, self.kind.least
        if paired < least:
            have = "no label has" if not paired else "1 label has" if paired == 1 else f"{paired} labels have"
            return f"cannot be measured: {have} two rows or more, {least} {'is' if least == 1 else 'are'} needed to hold any out"
        return "cannot be measured: too few groups of different texts to hold any out, all others are near-copies"

    @property
    def notes(self) -> tuple[str, ...]:
        """Lines for the user about the rows."""
        notes = tuple(self.file.get("notes", ()))
        if not self.divided or not self.measurable:
            return notes
        near = f"{counted(self.divided, 'row')} of templates, or with much text in common, may have near-copies in another fold"
        return (*notes, f"{near}: figures on held-out rows may flatter")


def read_rows(task: Task, folder: RunFolder, *, skip_bad: bool) -> Rows:
    """Return the rows of the task's training files, from the step cache if they are there.

    Raises:
        DataError: the file cannot be used.
    """
    config = task.config
    kind = KINDS[config.task]
    files = {"data.train": file_key(task.train), "data.more": file_key(_more(task))}

    def make(out: Path) -> None:
        examples, file, places = _load(task, skip_bad=skip_bad)
        texts = [example.text for example in examples]
        language = config.language
        if language == "auto":
            language = detect_language(text[:LANGUAGE_SAMPLE] for text in texts or task.descriptions.values())
        split = split_rows(examples, folds=config.gate.folds, seed=config.seed, names=kind.names, least=kind.least)
        dealt = {"folds": split.folds.tolist(), "groups": split.groups.tolist(), "divided": split.divided, "honest": split.honest}
        write_jsonl(out / "examples.jsonl", [example.to_json() for example in examples])
        write_json(out / "facts.json", {"language": language, "file": file, "places": places, **dealt})

    done = folder.step(STEPS["rows"], make, config=settings_of(config), extra={**files, "skip_bad": skip_bad})
    facts = read_json(done / "facts.json")
    if skipped := facts["file"].get("skipped"):
        rows = [SkippedRow(**row | {"place": RowPlace(*row["place"])}) for row in skipped]
        write_skipped(folder.path / "skipped.csv", rows)
    else:
        (folder.path / "skipped.csv").unlink(missing_ok=True)  # an earlier run with other rows may have left it
    examples = tuple(Example.from_json(record) for record in read_jsonl(done / "examples.jsonl"))
    folds, groups = (np.array(facts[name], int) for name in ("folds", "groups"))
    places = {name: RowPlace(*place) for name, place in facts["places"].items()}
    dealt = {"honest": facts["honest"], "divided": facts["divided"]}
    return Rows(examples, folds, facts["language"], facts["file"], kind, groups, **dealt, places=places)


def file_key(path: Path | None) -> list[str | None] | None:
    """Return the key of a file in a step's key: its name, which decides how it is read, and the hash of its content."""
    return None if path is None else [path.name, file_digest_or_none(path)]


def _more(task: Task) -> Path | None:
    """Return the file of rows that were labeled later, if it is there."""
    more = task.config.data.more
    return more if more is not None and more.exists() else None


def _load(task: Task, *, skip_bad: bool) -> tuple[tuple[Example, ...], dict[str, Any], dict[str, RowPlace]]:
    files = read_labeled(task, skip_bad=skip_bad)
    if not files:
        return (), {}, {}
    examples, disputed = join_rows([file.examples for file in files])
    notes = [note for file in files for note in file.notes]
    if disputed:
        notes.append(f"{disputed} texts carry one label in data.train and another in data.more: kept out")
    facts = {
        "name": " + ".join(path.name for path in (task.train, _more(task)) if path is not None),
        "format": " + ".join(", ".join(filter(None, (file.format, file.encoding, file.delimiter))) for file in files),
        "rows": sum(file.rows for file in files),
        "skipped": [asdict(row) for file in files for row in file.skipped],
        "notes": notes,
    }
    places = {name: place for file in files for name, place in file.places.items()}
    return examples, facts, {example.id: places[example.id] for example in examples}


def read_labeled(task: Task, *, skip_bad: bool, least_labels: int | None = None) -> list[LoadedRows]:
    """Return the content of each file of labeled rows that is there: data.train, then data.more.

    `least_labels` is the fewest labels that must have rows; by default the fewest that a task of this kind can have.

    Raises:
        DataError: a file cannot be used, or the first has rows of too few labels.
    """
    data, files = task.config.data, []
    kind = KINDS[task.config.task]
    least_labels = kind.least if least_labels is None else least_labels
    spans: Spans = "marked" if kind.words else "none"
    examples_of = partial(
        read_examples,
        labels=task.labels,
        columns=data.columns,
        separator=data.separator,
        merge=data.merge,
        spans=spans,
        skip_bad=skip_bad,
    )
    if task.train is not None:
        files.append(examples_of(task.train, **data.written, least_labels=least_labels))
    if (more := _more(task)) is not None:
        loaded = examples_of(more, least_labels=0 if files else least_labels)
        named = tuple(replace(example, id=_more_id(example.id)) for example in loaded.examples)
        places = {_more_id(name): place for name, place in loaded.places.items()}
        notes = tuple(f"{more.name}: {note}" for note in describe_skipped(loaded.skipped))
        files.append(replace(loaded, examples=named, notes=notes, places=places))
    return files


def _more_id(name: str) -> str:
    """Return the id of a row of data.more, so that it differs from the ids of data.train."""
    return name.replace("row-", "more-", 1)


def join_rows(files: Sequence[Sequence[Example]]) -> tuple[tuple[Example, ...], int]:
    """Return the rows of all files without duplicates and without texts that carry two labels, and the number of such texts."""
    labels: dict[str, set[str]] = {}
    joined: dict[str, Example] = {}
    for example in (example for file in files for example in file):
        labels.setdefault(normalize(example.text), set()).add(example.label)
        joined.setdefault(example.text, example)
    kept = tuple(example for text, example in joined.items() if len(labels[normalize(text)]) == 1)
    return kept, sum(len(names) > 1 for names in labels.values())
