"""Active learning on a finished run: writes the texts whose labels would help most to a form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refsynth.bundle.manifest import MANIFEST
from refsynth.bundle.model import Answered, Model, load
from refsynth.core.errors import DataError, InputError, counted
from refsynth.core.files import read_jsonl, write_jsonl
from refsynth.core.hashes import derive_seed, file_digest
from refsynth.core.record import command_of
from refsynth.core.sections import Columns
from refsynth.data.rows import Row, open_rows, readable
from refsynth.data.source import WORKBOOKS
from refsynth.data.table import refuse_idle
from refsynth.data.text import normalize
from refsynth.labels.active import STRATEGIES, CandidatePool, StrategyName, centered, choose, kappa, stable
from refsynth.labels.forms import LabelForm, Scores, check_forms, key_of, skips_of
from refsynth.labels.more import MARKED_ROW, texts_added
from refsynth.learning.job import Job
from refsynth.learning.pool import draw

WATCHED, LEAST_WATCHED = 1000, 30
"""Most and fewest texts of the pool whose predicted labels are compared between rounds."""

STRANGE = "none of these: unlike the rows of all labels"
"""Why a text is among the last in a form."""

ROUNDS = "rounds.jsonl"


class Stability(NamedTuple):
    """How much new labels changed the model's predictions on the pool.

    Attributes:
        kappas: kappa of each round with the one before.
        changed: share of the watched texts whose predicted label changed in the last round.
        stop: whether more labels of this pool would hardly change the model.
    """

    kappas: tuple[float, ...]
    changed: float
    n: int
    stop: bool


class WrittenForm(NamedTuple):
    """A form of texts to label.

    Attributes:
        text: the name of its text column.
        pool: number of texts without a label that could be asked for.
        labeled: number of texts of the pool that have a label.
        skipped: number of texts that a person left without a label before.
        sure: number of texts of a scored pool on which the model is not unsure; they are not asked for.
        unreadable: number of unreadable rows of the pool.
        repeated: number of rows that repeat an earlier text.
        strange: number of rows of the form that are marked as none of the labels; they come last.
        certain: whether the model is unsure on no text of a scored pool; then all its texts may be asked for.
    """

    file: Path
    text: str
    rows: int
    pool: int
    labeled: int
    skipped: int
    sure: int
    unreadable: int
    repeated: int
    strange: int
    certain: bool
    stability: Stability | None


def ask_next(
    job: Job,
    pool: Path,
    *,
    n: int,
    strategy: StrategyName,
    out: Path | None = None,
    text: str | None = None,
    delimiter: str | None = None,
    encoding: str | None = None,
    seed: int | None = None,
    again: bool = False,
) -> WrittenForm:
    """Write a form with the `n` texts of an unlabeled file whose labels would help most.

    Texts that the model marks as none of the labels come last, since most of them have no label. Texts of `data.none` are left
    out.

    Args:
        job: of a finished run.
        pool: the file (CSV, TSV, JSONL, Parquet, Excel, or text with one per line). If `predict --out` wrote it, only the rows on
            which the model is unsure are used, if there are any.
        n: number of texts.
        strategy: how they are chosen.
        out: the form; a new file in RUN/label if None.
        text: the text column of the pool; the task's if None.
        delimiter: of a CSV pool; detected if None.
        encoding: of the pool; detected if None.
        seed: of the random draws; the task's if None.
        again: ask again for texts that were left without a label.

    Raises:
        DataError: the pool cannot be read, or has no unlabeled text.
        InputError: the run is not finished, the form cannot be written, or words have labels.
    """
    notes = job.folder.path / "label"
    bundle, file = job.folder.path / "bundle", out or _new_file(notes, pool)
    if not bundle.is_dir():
        raise InputError(f"{job.folder.path}: the run is not finished", remedy=command_of(job.folder.path))
    check_forms(file)
    if job.rows.kind.words:
        raise InputError(
            "task: tokens: which texts to label next is known for labels of whole texts only",
            remedy=f"label texts of your choice, and add them in a JSONL file named as data.more in task.yaml: {MARKED_ROW}",
        )
    model, own = load(bundle), job.task.config.data.columns
    columns = own if text is None else own.model_copy(update={"text": text})
    fallback = None if text is not None else columns.model_copy(update={"text": Columns().text})
    with open_rows(pool, columns=columns, otherwise=fallback, delimiter=delimiter, encoding=encoding) as reading:
        refuse_idle(pool, reading.format, delimiter=delimiter, encoding=encoding)
        read = list(reading.rows)
    form = LabelForm.of(reading, own, job.task.labels, several=job.rows.kind.several)
    usable = readable(pool, read, remedy="correct the file, or name the column of the text with --text")
    rows = list({normalize(row.text): row for row in reversed(usable)}.values())[::-1]
    form = form._replace(times=Counter(key_of(row.text) for row in usable))
    known = {normalize(text) for text in (*(example.text for example in job.rows.examples), *texts_added(job.task))}
    known |= job.outside.known
    new = [row for row in rows if normalize(row.text) not in known]
    unsure = new if (scores := Scores.of(reading.heads)) is None else scores.chosen(new)
    certain = bool(new) and not unsure
    candidates = new if certain else unsure
    skips = set() if again else skips_of(notes)
    free = [row for row in candidates if key_of(row.text) not in skips]
    counts = {"labeled": len(rows) - len(new), "skipped": len(candidates) - len(free), "sure": len(new) - len(candidates)}
    counts |= {"unreadable": len(read) - len(usable), "repeated": len(usable) - len(rows)}
    if not free:
        raise _no_text(pool, len(read), counts)
    root = derive_seed(job.task.config.seed if seed is None else seed, "label", len(known))
    drawn = draw(free, seed=root)
    answered = model.answer([row.text for row in drawn])
    forms = _forms(job, model, drawn, answered, strategy, n, root, form)
    stability = _watch(job, model, file_digest(bundle / MANIFEST), rows)
    form.write(file, forms)
    column = own.text if reading.format == "text" else reading.taken.text
    counts["strange"] = max(0, len(forms) - int((~answered.none).sum()))
    return WrittenForm(file, column, len(forms), len(free), **counts, certain=certain, stability=stability)


def _no_text(pool: Path, rows: int, counts: Mapping[str, int]) -> DataError:
    reasons = {
        "labeled": "with a label",
        "skipped": "left without a label before (--again asks for them)",
        "sure": "on which the model is not unsure",
        "unreadable": "unreadable",
        "repeated": "with the text of another",
    }
    listed = ", ".join(f"{count:,} {reasons[name]}" for name, count in counts.items() if count)
    scored = "name the file that was scored, so that all its texts may be asked for"
    return DataError(
        f"{pool}: no text without a label, of {counted(rows, 'row')}{f': {listed}' if listed else ''}",
        remedy=scored if counts["sure"] else "name a file with new texts",
    )


def _forms(
    job: Job, model: Model, rows: Sequence[Row], answered: Answered, strategy: StrategyName, n: int, seed: int, form: LabelForm
) -> list[dict[str, Any]]:
    """Return the rows of the form, best first; those that are marked as none of the labels last."""
    texts, nothing = [row.text for row in rows], np.zeros((len(rows), 0))
    several, cuts = job.rows.kind.several, model.manifest.calibration.label_thresholds
    probabilities, chooser = answered.probabilities, STRATEGIES[strategy]
    pool = CandidatePool(probabilities if cuts is None else centered(probabilities, cuts), nothing, nothing[:0], several)
    if chooser.embeds:
        labeled = [example.text for example in job.rows.examples]
        features = np.asarray(job.context.encoder.encode([*texts, *labeled]))
        pool = pool._replace(features=features[: len(texts)], labeled=features[len(texts) :])
    why = f"{strategy}: {chooser.of_set if several else chooser.score}"
    out: list[dict[str, Any]] = []
    for marked, reason in ((~answered.none, why), (answered.none, f"{STRANGE}; {why}")):
        places = np.flatnonzero(marked)
        part = pool._replace(probabilities=pool.probabilities[places], features=pool.features[places])
        chosen = zip(*choose(strategy, part, n - len(out), seed=seed), strict=True)
        out += [form.fill(rows[places[place]], why=reason, score=float(score)) for place, score in chosen]
    return out


def _new_file(folder: Path, pool: Path) -> Path:
    """Return the path of a new file: an Excel file if the pool is a workbook, else a CSV file."""
    suffix = ".xlsx" if pool.suffix.lower() in WORKBOOKS else ".csv"
    return next(path for number in count(1) if not (path := folder / f"next-{number}{suffix}").exists())


def _watch(job: Job, model: Model, bundle: str, rows: Sequence[Row]) -> Stability | None:
    """Compare the model's answers to a fixed part of the pool with those of earlier rounds.

    Texts are stored as hashes. Two calls with the same bundle count as one round.
    """
    folder = job.folder.path / "label"
    folder.mkdir(exist_ok=True)
    earlier = list(read_jsonl(folder / ROUNDS)) if (folder / ROUNDS).exists() else []
    watched = sorted({key_of(row.text): row.text for row in rows}.items())[:WATCHED]
    answers = model.decide(model.probabilities([text for _, text in watched]))
    names = {key: job.rows.kind.shown(answer, model.labels) for (key, _), answer in zip(watched, answers, strict=True)}
    rounds = [record for record in earlier if record["bundle"] != bundle]
    rounds.append({"bundle": bundle, "labeled": len(job.rows.examples), "said": names})
    write_jsonl(folder / ROUNDS, rounds)
    return stability([record["said"] for record in rounds])


def stability(rounds: Sequence[Mapping[str, str]]) -> Stability | None:
    """Return how the answers to watched texts changed between rounds; None if the last two rounds share too few texts."""
    kappas: list[float] = []
    changed, n = 0.0, 0
    for before, after in pairwise(rounds):
        shared = sorted(before.keys() & after.keys())
        if len(shared) < LEAST_WATCHED:
            kappas.clear()
            continue
        names = {name: place for place, name in enumerate(sorted({*before.values(), *after.values()}))}
        first, second = (np.array([names[answers[key]] for key in shared]) for answers in (before, after))
        kappas.append(kappa(first, second))
        changed, n = float((first != second).mean()), len(shared)
    return Stability(tuple(kappas), changed, n, stable(kappas)) if kappas else None
