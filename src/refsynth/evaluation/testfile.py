"""The final evaluation: the shipped model and every candidate on the test file.

The test rows decide one thing: drafts and pool texts that resemble one are reported, and the run trains again without them.
Apart from that, the shipped model does not depend on the test file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from refsynth.bundle.certificate import profile_of
from refsynth.bundle.model import load
from refsynth.core.errors import DataError
from refsynth.core.files import read_json, write_json
from refsynth.core.hashes import digest
from refsynth.core.sections import DataConfig
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.types import Array, Draft, Example, IntArray, kept
from refsynth.data.row_reader import Spans
from refsynth.data.rows import BadRow, iter_rows
from refsynth.data.text import near_groups
from refsynth.evaluation.leakage import LEAKED, Shared, leaked, shared_rows
from refsynth.kinds import Kind, as_json, from_json, given_labels
from refsynth.learning.final import Final
from refsynth.learning.held import HeldOut
from refsynth.learning.job import Job
from refsynth.learning.rows import file_key
from refsynth.learning.selftrain import UnlabeledText
from refsynth.models.predict import logits_of

MAJORITY = "majority"
SHIPPED = "shipped"


@dataclass(frozen=True)
class TestResult:
    """The predictions of each system on N test rows.

    Attributes:
        truth: the labels, as the task's `Kind` encodes them.
        predicted: answers by system: `majority`, a candidate's name, or `shipped`.
        unsure: whether the bundle abstains [N].
        leaked: ids of drafts and pool texts that resemble a test row.
        unusable: numbers of the rows that could not be measured, by reason.
        void: whether the test rows are distributed differently from the texts of a cascade's certificate; None without one.
        groups: group numbers of near-duplicate rows [N].
        numbers: row numbers in the file [N].
        shared: the rows that are also in the training file.
    """

    truth: Array
    predicted: Mapping[str, Array]
    probabilities: Array
    unsure: NDArray[np.bool_]
    leaked: tuple[str, ...]
    unusable: Mapping[str, Sequence[int]]
    void: bool | None
    groups: IntArray
    numbers: IntArray
    shared: tuple[Shared, ...] = ()

    @property
    def new(self) -> TestResult | None:
        """The result on rows whose text is in no training row; None if there are none."""
        return self._without([row.place for row in self.shared if row.same])

    @property
    def apart(self) -> TestResult | None:
        """The result on rows that are not near-duplicates of training rows either; None if there are none."""
        return self._without([row.place for row in self.shared])

    def _without(self, places: Sequence[int]) -> TestResult | None:
        left = np.delete(np.arange(len(self.truth)), places)
        if not len(left):
            return None
        arrays = {name: getattr(self, name)[left] for name in ("truth", "probabilities", "unsure", "groups", "numbers")}
        predicted = {name: answers[left] for name, answers in self.predicted.items()}
        return replace(self, **arrays, predicted=predicted, shared=())

    @property
    def rows(self) -> int:
        """The number of rows of the test file."""
        return len(self.truth) + sum(map(len, self.unusable.values()))


def evaluate_test(
    job: Job,
    final: Final,
    compared: Final,
    held: HeldOut | None,
    bundle: Path,
    *,
    made: str,
    studied: Sequence[UnlabeledText] = (),
) -> TestResult:
    """Read the test file, and measure the bundle and the other candidates on it.

    Args:
        job: the task, which names a test file.
        final: the predictors fitted to all rows to ship.
        compared: the predictors fitted to all rows for comparison.
        held: the results of cross-validation, from which candidates have their decision thresholds.
        bundle: the shipped bundle.
        made: the step that made it.
        studied: texts of the pool that models learned from without a label.

    Raises:
        DataError: the file cannot be read, or has no usable row.
    """
    config, context = job.task.config, job.context
    path, kind, labels = config.data.test, context.kind, context.labels
    assert path is not None
    cuts = {candidate: held.cuts_of(logits) for candidate, logits in held.logits.items()} if held and kind.several else {}
    extra = {
        "data.test": file_key(path),
        "studied": digest(studied),
        "cuts": digest({str(candidate): np.asarray(cut).tolist() for candidate, cut in cuts.items()}),
        "encoder": context.encoder_hash,
    }

    def make(out: Path) -> None:
        texts, truth, numbers, unusable = _read(path, config.data, kind, labels)
        model = load(bundle)
        answered, early = model.answer(texts), model.manifest.tiers[0].early
        predicted = {
            MAJORITY: as_json(kind.usual(kind.truth(given_labels(final.real), labels), len(texts))),
            SHIPPED: as_json(answered.answers),
        }
        fitted = {**compared.predictors(context), **final.predictors(context)}
        for candidate, logits in logits_of(fitted, texts).items():
            cut = cuts.get(candidate)
            predicted[str(candidate)] = as_json(kind.decide(logits if cut is not None else kind.probabilities(logits), cut))
        result = {
            "truth": as_json(kind.truth(truth, labels)),
            "predicted": predicted,
            "probabilities": as_json(answered.probabilities if kind.words else answered.probabilities.round(6)),
            "unsure": answered.unsure.tolist(),
            "leaked": _leaks(final.drafts, studied, texts),
            "unusable": unusable,
            "void": None if early is None else early.certificate.shifted(profile_of(answered.exit_confidence, texts), len(texts)),
            "groups": near_groups(texts).tolist(),
            "numbers": numbers,
            "shared": shared_rows(texts, job.rows.examples, language=context.language),
        }
        write_json(out / "result.json", result)

    done = job.folder.step(STEPS["test"], make, config=settings_of(config), extra=extra, using=(made,))
    result = read_json(done / "result.json")
    return TestResult(
        from_json(result["truth"]),
        {name: from_json(answers) for name, answers in result["predicted"].items()},
        from_json(result["probabilities"]),
        np.array(result["unsure"], bool),
        tuple(result["leaked"]),
        result["unusable"],
        result["void"],
        np.array(result["groups"], int),
        np.array(result["numbers"], int),
        tuple(Shared(*row) for row in result["shared"]),
    )


def _leaks(drafts: Sequence[Draft], studied: Sequence[UnlabeledText], texts: Sequence[str]) -> list[str]:
    """Return the ids of the texts that resemble test rows; none if the model learned from none of them.

    Dropped drafts are included: their near-duplicates would otherwise replace the texts that are taken out.
    """
    learned = leaked([*kept(drafts), *(Example(row.id, row.text, "") for row in studied)], texts)
    dropped = [draft.example for draft in drafts if draft.dropped not in (None, LEAKED)]
    return [*learned, *leaked(dropped, texts)] if learned else []


class _Measurable(NamedTuple):
    """The measurable rows of a file (texts, labels, numbers), and the numbers of the other rows by reason."""

    texts: list[str]
    labels: list[str]
    numbers: list[int]
    unusable: dict[str, list[int]]


def _read(path: Path, data: DataConfig, kind: Kind, labels: Sequence[str]) -> _Measurable:
    texts, truth, numbers, unusable = [], [], [], defaultdict[str, list[int]](list)
    spans: Spans = "marked" if kind.words else "none"
    rows = iter_rows(
        path, columns=data.columns, **data.written, separator=data.separator, spans=spans, labels=labels, merge=data.merge
    )
    for row in rows:
        if isinstance(row, BadRow):
            unusable["an unreadable row"].append(row.number)
        elif row.label is None or not set(kind.names(row.label)) <= set(labels):
            unusable["an unknown or missing label"].append(row.number)
        else:
            texts.append(row.text)
            truth.append(row.label)
            numbers.append(row.number)
    if not texts:
        reasons = ", ".join(f"{len(rows)} with {why}" for why, rows in unusable.items()) or "no rows"
        raise DataError(f"{path}: no row to measure on: {reasons}", remedy="correct data.test or data.columns in task.yaml")
    return _Measurable(texts, truth, numbers, dict(unusable))
