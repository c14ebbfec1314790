"""Active learning on a finished run: ask people for the labels that it lacks most."""

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
from refsynth.core.record import command_of
from refsynth.core.run import derive_seed, digest, file_digest, read_jsonl, write_jsonl
from refsynth.core.sections import Columns
from refsynth.data.rows import Row, open_rows, readable
from refsynth.data.source import WORKBOOKS
from refsynth.data.table import refuse_idle
from refsynth.data.text import normalise
from refsynth.labels.active import STRATEGIES, CandidatePool, StrategyName, centred, choose, kappa, stable
from refsynth.labels.forms import LabelForm, Scores, check_forms, key_of, skips_of
from refsynth.labels.more import MARKED_ROW, texts_added
from refsynth.learning.job import Job
from refsynth.learning.pool import draw

WATCHED, LEAST_WATCHED = 1000, 30
"""Texts of the pool whose predicted labels are compared between rounds, and the fewest that can be."""

STRANGE = "none of these: unlike the rows of all labels"
"""Why a text is among the last."""

ROUNDS = "rounds.jsonl"


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
    """What is to be labelled.

    Attributes:
        file: to be filled in.
        text: what its column of the text is called.
        rows: of the file.
        pool: texts without a label; `sure` ones, of which a scored pool says that the model is not unsure, are not among them.
        labelled: texts of the pool with a label.
        skipped: texts that a person left without one before.
        sure: see `pool`.
        certain: whether the model is unsure of no text of a scored pool; then any of them may be asked for.
        unreadable: rows of the pool.
        repeated: rows of the pool whose text is that of a row before; a text is asked for once.
        strange: those of `rows` that are marked as none of the labels; they are asked for last.
        stability: how much the last labels changed.
    """

    file: Path
    text: str
    rows: int
    pool: int
    labelled: int
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
) -> Asked:
    """Write the `n` texts of an unlabelled file that are most worth a label, to be filled in.

    Texts that the model marks as none of the labels come after all others: most of them have no label that could be filled in.
    Those of `data.none` are not asked for.

    Args:
        job: of a finished run.
        pool: the file (CSV, TSV, JSONL, Parquet, Excel, or text with one per line); of one that `predict --out` wrote, only the
            rows of which the model is unsure, if there are any.
        n: how many.
        strategy: how they are chosen.
        out: where they are written; a new file in RUN/label if None.
        text: column of the pool; that of the task if None.
        delimiter: of a CSV pool; detected if None.
        encoding: of the pool; detected if None.
        seed: of what is drawn; the task's if None.
        again: whether texts are asked for that were left without a label before.

    Raises:
        DataError: the pool cannot be read, or has no text that is not labelled.
        InputError: the run is not finished, the file cannot be written, or it is words that have labels.
    """
    notes = job.folder.path / "label"
    bundle, file = job.folder.path / "bundle", out or _new_file(notes, pool)
    if not bundle.is_dir():
        raise InputError(f"{job.folder.path}: the run is not finished", remedy=command_of(job.folder.path))
    check_forms(file)
    if job.rows.kind.spans:
        raise InputError(
            "task: tokens: which texts to label next is known for labels of whole texts only",
            remedy=f"label texts of your choice, and add them in a JSONL file named as data.more in task.yaml: {MARKED_ROW}",
        )
    model, own = load(bundle), job.task.config.data.columns
    columns = own if text is None else own.model_copy(update={"text": text})
    with open_rows(pool, columns=columns, otherwise=_usual(columns, text), delimiter=delimiter, encoding=encoding) as reading:
        refuse_idle(pool, reading.format, delimiter=delimiter, encoding=encoding)
        read = list(reading.rows)
    form = LabelForm.of(reading, own, job.task.labels, several=job.rows.kind.several)
    usable = readable(pool, read, remedy="correct the file, or name the column of the text with --text")
    rows = list({normalise(row.text): row for row in reversed(usable)}.values())[::-1]
    form = form.counting(Counter(key_of(row.text) for row in usable))
    known = {normalise(text) for text in (*(example.text for example in job.rows.examples), *texts_added(job.task))}
    known |= job.outside.known
    new = [row for row in rows if normalise(row.text) not in known]
    unsure = new if (scores := Scores.of(reading.heads)) is None else scores.chosen(new)
    certain = bool(new) and not unsure
    doubtful = new if certain else unsure
    skips = set() if again else skips_of(notes)
    free = [row for row in doubtful if key_of(row.text) not in skips]
    counts = {"labelled": len(rows) - len(new), "skipped": len(doubtful) - len(free), "sure": len(new) - len(doubtful)}
    counts |= {"unreadable": len(read) - len(usable), "repeated": len(usable) - len(rows)}
    if not free:
        raise _nothing(pool, len(read), counts)
    root = derive_seed(job.task.config.seed if seed is None else seed, "label", len(known))
    drawn = draw(free, seed=root)
    found = model.answer([row.text for row in drawn])
    forms = _forms(job, model, drawn, found, strategy, n, root, form)
    stability = _watch(job, model, file_digest(bundle / MANIFEST), rows)
    form.write(file, forms)
    taken = own.text if reading.format == "text" else reading.taken.text
    counts["strange"] = max(0, len(forms) - int((~found.none).sum()))
    return Asked(file, taken, len(forms), len(free), **counts, certain=certain, stability=stability)


def _usual(columns: Columns, text: str | None) -> Columns:
    """Return what the columns of the text may be called where the file has not those of the task."""
    return columns if text is not None else columns.model_copy(update={"text": Columns().text})


def _nothing(pool: Path, rows: int, counts: Mapping[str, int]) -> DataError:
    why = {
        "labelled": "with a label",
        "skipped": "left without a label before (--again asks for them)",
        "sure": "that the model is sure of",
        "unreadable": "unreadable",
        "repeated": "with the text of another",
    }
    told = ", ".join(f"{count:,} {why[name]}" for name, count in counts.items() if count)
    return DataError(
        f"{pool}: no text that is not labelled yet, of {counted(rows, 'row')}{f': {told}' if told else ''}",
        remedy="name the file that was scored, to be asked for any of its texts"
        if counts["sure"]
        else "name a file with new texts",
    )


def _forms(
    job: Job, model: Model, rows: Sequence[Row], found: Answered, strategy: StrategyName, n: int, seed: int, form: LabelForm
) -> list[dict[str, Any]]:
    """Return the rows to be filled in, by what was found of them; those that are none of the labels last."""
    texts, nothing = [row.text for row in rows], np.zeros((len(rows), 0))
    several, cuts = job.rows.kind.several, model.manifest.calibration.label_thresholds
    said = found.probabilities
    pool = CandidatePool(said if cuts is None else centred(said, cuts), nothing, nothing[:0], several)
    if STRATEGIES[strategy].embeds:
        labelled = [example.text for example in job.rows.examples]
        features = np.asarray(job.context.encoder.encode([*texts, *labelled]))
        pool = pool._replace(features=features[: len(texts)], labelled=features[len(texts) :])
    way = STRATEGIES[strategy]
    why = f"{strategy}: {way.of_set if several else way.score}"
    out: list[dict[str, Any]] = []
    for mine, reason in ((~found.none, why), (found.none, f"{STRANGE}; {why}")):
        places = np.flatnonzero(mine)
        part = pool._replace(probabilities=pool.probabilities[places], features=pool.features[places])
        chosen = zip(*choose(strategy, part, n - len(out), seed=seed), strict=True)
        out += [form.fill(rows[places[place]], why=reason, score=float(score)) for place, score in chosen]
    return out


def _new_file(folder: Path, pool: Path) -> Path:
    """Return a name that is free: of an Excel file where the pool is a workbook, else of a CSV file."""
    suffix = ".xlsx" if pool.suffix.lower() in WORKBOOKS else ".csv"
    return next(path for number in count(1) if not (path := folder / f"next-{number}{suffix}").exists())


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
