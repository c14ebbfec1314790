"""Active learning on a finished run: ask people for the labels that it lacks most, and take the answers in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refsynth.annotate.active import STRATEGIES, Pool, StrategyName, centred, choose, kappa, stable
from refsynth.annotate.added import Added, add_rows, check_forms, write_forms
from refsynth.bundle.manifest import MANIFEST
from refsynth.bundle.model import Model, load
from refsynth.core.errors import ConfigError, DataError, InputError, counted
from refsynth.core.run import derive_seed, digest, file_digest, read_jsonl, write_jsonl
from refsynth.core.sections import Columns
from refsynth.core.types import Example
from refsynth.data.columns import text_fields
from refsynth.data.io import Loaded, Row, iter_rows, read_examples, readable, write_skipped
from refsynth.data.text import normalise
from refsynth.pipeline.job import Job
from refsynth.pipeline.pool import draw
from refsynth.pipeline.reopen import recall
from refsynth.pipeline.rows import read_labelled
from refsynth.task import Task

WATCHED, LEAST_WATCHED = 1000, 30
"""Texts of the pool whose predicted labels are compared between rounds, and the fewest that can be."""

ROUNDS = "rounds.jsonl"

MARKED_ROW = '{"text": "[Ann Lee](person) lives in [Oslo](place)"}'


class Stability(NamedTuple):
    """How much the last labels changed what the model says of the pool.

    `kappas` has one value per round since the first; `changed` is the share of `n` watched texts that got another label in the
    last; `stop` says that further labels of this pool would hardly change the model.
    """

    kappas: tuple[float, ...]
    changed: float
    n: int
    stop: bool


class Asked(NamedTuple):
    """What is to be labelled: the file and its rows; of the pool, texts without a label, with one, and unreadable rows."""

    file: Path
    rows: int
    pool: int
    labelled: int
    unreadable: int
    stability: Stability | None


def ask_next(
    job: Job,
    pool: Path,
    *,
    n: int,
    strategy: StrategyName,
    out: Path | None = None,
    columns: Columns | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    seed: int | None = None,
) -> Asked:
    """Write the `n` texts of an unlabelled file that are most worth a label, to be filled in.

    Args:
        job: of a finished run.
        pool: the file (CSV, TSV, JSONL, Parquet, or text with one per line).
        n: how many.
        strategy: how they are chosen.
        out: where they are written, CSV or JSONL; a new file in RUN/label if None.
        columns: of the pool; those of the task if None.
        delimiter: of a CSV pool; detected if None.
        encoding: of the pool; detected if None.
        seed: of what is drawn; the task's if None.

    Raises:
        DataError: the pool cannot be read, or has no text that is not labelled.
        InputError: the run is not finished, the file cannot be written, or it is words that have labels.
    """
    bundle, file = job.folder.path / "bundle", out or _new_file(job.folder.path / "label")
    if not bundle.is_dir():
        raise InputError(f"{job.folder.path}: the run is not finished", remedy="refsynth run TASK.yaml --out RUN")
    check_forms(file)
    if job.rows.kind.spans:
        raise InputError(
            "task: tokens: which texts to label next is known for labels of whole texts only",
            remedy=f"label texts of your choice, and add them in a JSONL file named as data.more in task.yaml: {MARKED_ROW}",
        )
    model = load(bundle)
    read = list(iter_rows(pool, columns=columns or job.task.config.data.columns, delimiter=delimiter, encoding=encoding))
    usable = readable(pool, read, remedy="correct the file, or name the column of the text with --text")
    rows = list({normalise(row.text): row for row in reversed(usable)}.values())[::-1]
    unreadable = len(read) - len(usable)
    known = {normalise(text) for text in (*(example.text for example in job.rows.examples), *_added(job.task))}
    free = [row for row in rows if normalise(row.text) not in known]
    if not free:
        bad = f" ({unreadable:,} cannot be read)" if unreadable else ""
        raise DataError(
            f"{pool}: no text that is not labelled yet, of {counted(len(read), 'row')}{bad}", remedy="name a file with new texts"
        )
    root = derive_seed(job.task.config.seed if seed is None else seed, "label", len(known))
    forms = _forms(job, model, draw(free, seed=root), strategy, n, root)
    stability = _watch(job, model, file_digest(bundle / MANIFEST), rows)
    write_forms(file, forms)
    return Asked(file, len(forms), len(free), len(rows) - len(free), unreadable, stability)


class Taken(NamedTuple):
    """Where added rows went, whether the task names that file, what became of them, what was read, where the rest is listed."""

    file: Path
    named: bool
    added: Added
    loaded: Loaded
    listed: Path | None


def add_labels(run: Path, file: Path, *, skip_bad: bool = False) -> Taken:
    """Take in a file that a person has filled in.

    Args:
        run: the run folder; the rows go to the task's `data.more`, or else beside its `data.train`.
        file: with the task's columns.
        skip_bad: leave malformed rows and unknown labels out and list them, instead of stopping at the first.

    Raises:
        InputError: the folder holds no run, or there is no place for the rows.
        DataError: a row of the file has a label that the task does not know.
    """
    task, _ = recall(run)
    if task.config.task == "tokens":
        raise InputError(
            "task: tokens: rows with marks are not taken in one by one",
            remedy=f"put them into a JSONL file, and name it as data.more in task.yaml: {MARKED_ROW}",
        )
    columns = task.config.data.columns
    separator = task.config.data.separator
    loaded = read_examples(file, labels=task.labels, columns=columns, separator=separator, skip_bad=skip_bad, least_labels=0)
    target = more_of(task)
    placed = Task.of(task.config.model_copy(update={"data": task.config.data.model_copy(update={"more": target})}))

    def known() -> list[Example]:
        return [example for each in read_labelled(placed, skip_bad=True, least_labels=0) for example in each.examples]

    added = add_rows(target, loaded.examples, known, columns=columns)
    listed = run / "label" / "skipped.csv" if skip_bad and loaded.skipped else None
    if listed is not None:
        listed.parent.mkdir(exist_ok=True)
        write_skipped(listed, loaded.skipped)
    return Taken(target, task.config.data.more is not None, added, loaded, listed)


def more_of(task: Task) -> Path:
    """Return the file that takes rows which are labelled later.

    Raises:
        ConfigError: the task names neither that file nor one beside which it could be.
    """
    if task.config.data.more is not None:
        return task.config.data.more
    if task.train is None:
        raise ConfigError(
            "there is no place for added rows: the task has neither data.train nor data.more",
            remedy="name one in task.yaml, under data: `more: more.jsonl`, and run it again",
        )
    return task.train.with_name(f"{task.train.stem}.more.jsonl")


def _added(task: Task) -> list[str]:
    """Return the texts of rows that were added since the run."""
    data = task.config.data
    if (data.more is None and task.train is None) or not (file := more_of(task)).is_file():
        return []
    return [row.text for row in iter_rows(file, columns=data.columns) if isinstance(row, Row)]


def _forms(job: Job, model: Model, rows: Sequence[Row], strategy: StrategyName, n: int, seed: int) -> list[dict[str, Any]]:
    """Return the rows to be filled in; what the model says of them is not shown, so that nobody follows it."""
    texts, nothing = [row.text for row in rows], np.zeros((len(rows), 0))
    several, cuts = job.rows.kind.several, model.manifest.calibration.cuts
    said = model.probabilities(texts)
    pool = Pool(said if cuts is None else centred(said, cuts), nothing, nothing[:0], several)
    if STRATEGIES[strategy].embeds:
        labelled = [example.text for example in job.rows.examples]
        features = np.asarray(job.shop.encoder.encode([*texts, *labelled]))
        pool = pool._replace(features=features[: len(texts)], labelled=features[len(texts) :])
    columns, way = job.task.config.data.columns, STRATEGIES[strategy]
    why = way.of_set if several else way.score
    return [
        {
            "id": rows[place].id or f"pool-{rows[place].number}",
            "score": round(float(score), 4),
            "reason": f"{strategy}: {why}",
            **text_fields(rows[place].text, columns),
            columns.label: "",
        }
        for place, score in zip(*choose(strategy, pool, n, seed=seed), strict=True)
    ]


def _new_file(folder: Path) -> Path:
    return next(path for number in count(1) if not (path := folder / f"next-{number}.csv").exists())


def _watch(job: Job, model: Model, bundle: str, rows: Sequence[Row]) -> Stability | None:
    """Compare what the model says of a fixed part of the pool with what those of earlier rounds said.

    Texts are kept as hashes. The same bundle asked twice is one round.
    """
    folder = job.folder.path / "label"
    folder.mkdir(exist_ok=True)
    earlier = [one for one in read_jsonl(folder / ROUNDS)] if (folder / ROUNDS).exists() else []
    watched = sorted({digest(normalise(row.text))[:16]: row.text for row in rows}.items())[:WATCHED]
    said = model.decide(model.probabilities([text for _, text in watched]))
    names = {key: job.rows.kind.shown(answer, model.labels) for (key, _), answer in zip(watched, said, strict=True)}
    rounds = [one for one in earlier if one["bundle"] != bundle]
    rounds.append({"bundle": bundle, "labelled": len(job.rows.examples), "said": names})
    write_jsonl(folder / ROUNDS, rounds)
    return stability([one["said"] for one in rounds])


def stability(rounds: Sequence[Mapping[str, str]]) -> Stability | None:
    """Return how the answers to watched texts changed from round to round; None where two rounds share too few texts."""
    kappas: list[float] = []
    changed, n = 0.0, 0
    for before, after in pairwise(rounds):
        shared = sorted(before.keys() & after.keys())
        if len(shared) < LEAST_WATCHED:
            kappas.clear()
            continue
        names = {name: place for place, name in enumerate(sorted({*before.values(), *after.values()}))}
        first, second = (np.array([names[said[key]] for key in shared]) for said in (before, after))
        kappas.append(kappa(first, second))
        changed, n = float((first != second).mean()), len(shared)
    return Stability(tuple(kappas), changed, n, stable(kappas)) if kappas else None
