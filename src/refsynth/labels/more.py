"""Adds labels that people give after a run, for the next run to learn from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from refsynth.core.errors import ConfigError, InputError
from refsynth.core.labelset import NONE, split_labels
from refsynth.core.multilabel import SEPARATOR
from refsynth.core.record import recall
from refsynth.core.sections import Columns
from refsynth.core.task import Task
from refsynth.core.types import Example
from refsynth.data.account import write_skipped
from refsynth.data.columns import text_fields
from refsynth.data.io import LoadedRows, read_examples
from refsynth.data.rows import Row, iter_rows, open_rows
from refsynth.labels.added import Added, add_rows
from refsynth.labels.forms import is_form, remember_skips
from refsynth.learning.rows import read_labeled

MARKED_ROW = '{"text": "[Ann Lee](person) lives in [Oslo](place)"}'


class AddedLabels(NamedTuple):
    """The result of adding labels.

    Attributes:
        file: the file to which rows were added.
        named: whether the task names that file.
        added: the number of new and known rows, and the conflicts.
        listed: the file that lists the rows that were left out.
        skipped: number of texts of a form that were left without a label; they are not asked for again.
    """

    file: Path
    named: bool
    added: Added
    loaded: LoadedRows
    listed: Path | None
    skipped: int


def add_labels(
    run: Path, file: Path, *, skip_bad: bool = False, text: str | None = None, label: str | None = None
) -> AddedLabels:
    """Add the labels of a file that a person has filled in.

    Args:
        run: the run folder. The rows go to the task's `data.more`, or to a file next to its `data.train`.
        file: the file, with the task's columns.
        text: its text column, if not the task's.
        label: its label column, if not the task's.
        skip_bad: leave out and list malformed rows and unknown labels instead of raising.

    Raises:
        InputError: the folder is not a run, or there is no file for the rows.
        DataError: a row has a label that the task does not have.
    """
    task, _ = recall(run)
    _check_whole_texts(task)
    own, separator = task.config.data.columns, task.config.data.separator
    columns = own.model_copy(update={key: name for key, name in (("text", text), ("label", label)) if name is not None})
    merge = task.config.data.merge
    loaded = read_examples(
        file, labels=task.labels, columns=columns, separator=separator, merge=merge, skip_bad=skip_bad, least_labels=0
    )
    target = more_of(task)
    placed = Task.of(task.config.model_copy(update={"data": task.config.data.model_copy(update={"more": target})}))

    def known() -> list[Example]:
        files = read_labeled(placed, skip_bad=True, least_labels=0)
        return [example for read in files for example in read.examples]

    names = {name: place.own_id for name, place in loaded.places.items()}
    added = add_rows(target, loaded.examples, known, columns=own, names=names)
    listed = run / "label" / "skipped.csv" if skip_bad and loaded.skipped else None
    if listed is not None:
        listed.parent.mkdir(exist_ok=True)
        write_skipped(listed, loaded.skipped)
    skipped = remember_skips(run / "label", _left_blank(file, columns, separator))
    return AddedLabels(target, task.config.data.more is not None, added, loaded, listed, skipped)


def _left_blank(file: Path, columns: Columns, separator: str | None) -> list[str]:
    """Return the texts of a form without a label; in other files, a missing label does not mean that a person saw the text."""
    with open_rows(file, columns=columns, separator=separator) as reading:
        if not is_form(reading.heads):
            return []
        return [row.text for row in reading.rows if isinstance(row, Row) and row.label is None]


def more_of(task: Task) -> Path:
    """Return the file for rows that are labeled later.

    Raises:
        ConfigError: the task has neither `data.more` nor `data.train`.
    """
    if task.config.data.more is not None:
        return task.config.data.more
    if task.train is None:
        raise ConfigError(
            "there is no file for added rows: the task has neither data.train nor data.more",
            remedy="name one in task.yaml, under data: `more: more.jsonl`, and run it again",
        )
    return task.train.with_name(f"{task.train.stem}.more.jsonl")


def texts_added(task: Task) -> list[str]:
    """Return the texts of rows that were added since the run."""
    data = task.config.data
    if (data.more is None and task.train is None) or not (file := more_of(task)).is_file():
        return []
    return [row.text for row in iter_rows(file, columns=data.columns) if isinstance(row, Row)]


def cells_for(run: Path) -> Callable[[str, str], dict[str, str]]:
    """Return a function from a text and its label to a row that `add_labels` reads for a run.

    Raises:
        InputError: the folder is not a run, or rows of its task kind cannot be added one by one.
    """
    task, _ = recall(run)
    _check_whole_texts(task)
    columns, separator = task.config.data.columns, task.config.data.separator or SEPARATOR

    def cells(text: str, label: str) -> dict[str, str]:
        several = task.config.kind.several and label not in ("", NONE)
        shown = separator.join(split_labels(label)) if several else label
        return {**dict.fromkeys(columns.texts, ""), **text_fields(text, columns), columns.label: shown}

    return cells


def _check_whole_texts(task: Task) -> None:
    if task.config.kind.words:
        raise InputError(
            "task: tokens: rows with marks cannot be added one by one",
            remedy=f"put them into a JSONL file, and name it as data.more in task.yaml: {MARKED_ROW}",
        )
