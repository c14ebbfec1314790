"""The final evaluation: what ships, and every candidate, on the test file.

Its rows decide one thing: drafts and texts of the pool that resemble one are named, and whoever runs makes the model again
without them. Else what ships is the same with any test file or none.
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
from refsynth.bundle.model import Answered, Model, load
from refsynth.core.errors import DataError
from refsynth.core.run import digest, read_json, write_json
from refsynth.core.sections import DataConfig
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.types import Array, Draft, Example, IntArray, kept
from refsynth.data.judge import Spans
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
    """What each system said of the test rows.

    `predicted` maps a system (`majority`, a candidate's name, `shipped`) to answers as the task's `Kind` has them;
    `probabilities` are the bundle's, and `unsure` [N] the rows on which it abstains. `leaked` are ids of drafts, and of texts
    of the pool, that resemble a test row; `unusable` has the numbers of rows by why they could not be measured. `void` tells
    whether the test rows are drawn otherwise than what the certificate of a cascade was made with; None without one. `groups` [N]
    are of rows that are near-copies of each other. `numbers` [N] are those of the rows in the file, and `shared` the rows that
    are in train too.
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
        """The rows whose text no training row has; None where there are none."""
        return self._without([one.place for one in self.shared if one.same])

    @property
    def apart(self) -> TestResult | None:
        """The rows that are no near-duplicates of training rows either; None where there are none."""
        return self._without([one.place for one in self.shared])

    def _without(self, places: Sequence[int]) -> TestResult | None:
        left = np.delete(np.arange(len(self.truth)), places)
        return (
            replace(
                self,
                truth=self.truth[left],
                predicted={name: answers[left] for name, answers in self.predicted.items()},
                probabilities=self.probabilities[left],
                unsure=self.unsure[left],
                groups=self.groups[left],
                numbers=self.numbers[left],
                shared=(),
            )
            if len(left)
            else None
        )

    @property
    def rows(self) -> int:
        """How many rows the test file has."""
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
    """Read the test file and measure the bundle and what it is compared with.

    Args:
        job: the task, which names a test file.
        final: what was fitted to all rows to ship.
        compared: what was fitted to them to be compared with it.
        held: what candidates said of held-out rows, from which they have what they need to decide.
        bundle: what ships.
        made: the step that made it.
        studied: texts of the pool that models have learned from without a label.

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
        texts, given, numbers, unusable = _read(path, config.data, kind, labels)
        model = load(bundle)
        found = model.answer(texts)
        said = {
            MAJORITY: as_json(kind.usual(kind.truth(given_labels(final.real), labels), len(texts))),
            SHIPPED: as_json(found.answers),
        }
        fitted = {**compared.predictors(context), **final.predictors(context)}
        for candidate, logits in logits_of(fitted, texts).items():
            cut = cuts.get(candidate)
            said[str(candidate)] = as_json(kind.decide(logits if cut is not None else kind.probabilities(logits), cut))
        result = {
            "truth": as_json(kind.truth(given, labels)),
            "predicted": said,
            "probabilities": as_json(found.probabilities if kind.spans else found.probabilities.round(6)),
            "unsure": found.unsure.tolist(),
            "leaked": _leaks(final.drafts, studied, texts),
            "unusable": unusable,
            "void": _void(model, found, texts),
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
        tuple(Shared(*one) for one in result["shared"]),
    )


def _leaks(drafts: Sequence[Draft], studied: Sequence[UnlabeledText], texts: Sequence[str]) -> list[str]:
    """Return the ids of what resembles test rows: nothing unless some of it was learnt from, and else all of it.

    With what is taken out, its near-duplicates among the dropped drafts would otherwise take its place.
    """
    learnt = leaked([*kept(drafts), *(Example(row.id, row.text, "") for row in studied)], texts)
    others = [draft.example for draft in drafts if draft.dropped not in (None, LEAKED)]
    return [*learnt, *leaked(others, texts)] if learnt else []


def _void(model: Model, found: Answered, texts: Sequence[str]) -> bool | None:
    early = model.manifest.tiers[0].early
    return None if early is None else early.certificate.shifted(profile_of(found.exit_confidence, texts), len(texts))


class _Measurable(NamedTuple):
    """The rows of a file that can be measured: texts, labels and numbers; and the numbers of the others by why they cannot."""

    texts: list[str]
    given: list[str]
    numbers: list[int]
    unusable: dict[str, list[int]]


def _read(path: Path, data: DataConfig, kind: Kind, labels: Sequence[str]) -> _Measurable:
    texts, given, numbers, unusable = [], [], [], defaultdict[str, list[int]](list)
    spans: Spans = "marked" if kind.spans else "none"
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
            given.append(row.label)
            numbers.append(row.number)
    if not texts:
        found = ", ".join(f"{len(rows)} with {why}" for why, rows in unusable.items()) or "no rows"
        raise DataError(f"{path}: no row to measure on: {found}", remedy="correct data.test or data.columns in task.yaml")
    return _Measurable(texts, given, numbers, dict(unusable))
