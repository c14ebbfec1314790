"""The parts of a report on what a model was made from: drafts, rows, files. Frozen dataclasses of plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from refsynth.core.types import Draft, Metric

HISTOGRAM_BINS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftCount:
    """Drafts of one label."""

    label: str
    asked: int
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Diversity:
    """How varied a set of `n` texts is.

    Shares of distinct words and word pairs (Li et al., 2016); the mean BLEU of a text against all others (self-BLEU, Zhu et al.,
    2018); the mean overlap of a text with its nearest neighbour in the set.
    """

    name: str
    distinct_1: float
    distinct_2: float
    self_bleu: float
    nearest_overlap: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Share of `n` real rows that have one of `drafts` drafts nearer than their k-th nearest other real row (Naeem et al., 2020).

    `expected` is what as many drafts from the distribution of the real rows would come to.
    """

    value: float
    expected: float
    k: int
    n: int
    drafts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreHistogram:
    """Counts of one scorer's scores between B + 1 `edges`, of kept and of dropped drafts."""

    scorer: str
    edges: tuple[float, ...]
    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    better: str = "higher"

    @classmethod
    def of(cls, scorer: str, kept: Sequence[float], dropped: Sequence[float], *, better: str = "higher") -> Self:
        """Count finite scores in bins of equal width."""
        groups = [np.asarray(group, float) for group in (kept, dropped)]
        finite = [group[np.isfinite(group)] for group in groups]
        edges = np.histogram_bin_edges(np.concatenate(finite), HISTOGRAM_BINS)
        counts = [tuple(np.histogram(group, edges)[0].tolist()) for group in finite]
        return cls(scorer=scorer, edges=tuple(edges.tolist()), kept=counts[0], dropped=counts[1], better=better)


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftRound:
    """What a round of drafts brought, with those before it: held-out accuracy with drafts, and its gain over real rows only.

    How varied the drafts are, and the share of the real rows that they cover.
    """

    number: int
    asked: int
    kept: int
    accuracy: float
    gain: Metric | None
    distinct_2: float | None
    self_bleu: float | None
    coverage: float | None
    used: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardTurn:
    """What the texts of a turn of reinforcement came to.

    Mean reward on the scale of the first turn, mean gain of the sound ones in nats of held-out loss, shares of faulty ones and of
    distinct word pairs, and nats per token from the reference.
    """

    reward: float
    gain: float
    faulty: float
    distinct_2: float
    kl: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reinforced:
    """The turns of the policy that one half of the folds rewarded."""

    half: str
    turns: tuple[RewardTurn, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafts:
    """What the reference wrote and what became of it.

    `dropped` counts by reason. `best` and `worst` are kept drafts at both ends of the ranking; `rejected` are dropped ones.
    `seeds` maps the ids that provenance shows to their texts. `agreement` is the share of parsed drafts whose label a model of
    the real rows confirms.
    """

    reference: str
    asked: int
    parsed: int
    kept: int
    dropped: Mapping[str, int]
    seconds: float | None = None
    per_class: tuple[DraftCount, ...] = ()
    diversity: tuple[Diversity, ...] = ()
    coverage: Coverage | None = None
    rounds: tuple[DraftRound, ...] = ()
    reinforced: tuple[Reinforced, ...] = ()
    agreement: Metric | None = None
    scores: tuple[ScoreHistogram, ...] = ()
    best: tuple[Draft, ...] = ()
    worst: tuple[Draft, ...] = ()
    rejected: tuple[Draft, ...] = ()
    seeds: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafting:
    """What a run wanted in the way of drafts, as its sections cannot tell.

    `wanted` counts those that task.yaml asks for; `hindrance` says why none of them was written, empty where some were; `pool`
    counts the unlabeled texts that joined them; `rows` are the real rows that the bundle learned from.
    """

    wanted: int
    rows: int
    hindrance: str = ""
    pool: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """Rows of a file that were left out, by reason, with their row numbers."""

    reason: str
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataFile:
    """A file that was read. `role` is e.g. `train`; `format` e.g. `CSV, utf-8, comma`."""

    role: str
    file: str
    rows: int
    used: int
    format: str = ""
    skipped: tuple[Skipped, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldFigures:
    """A fold of the real rows: how many it holds out, and how many drafts with them because they had seen one of them."""

    rows: int
    drafts_held_out: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretraining:
    """What a model learnt from unlabelled `texts`: perplexity on `held` others, of masked words for an encoder.

    `gain` is that of frozen embeddings on held-out real rows; `used` whether the run went on with what was learnt.
    """

    model: str
    texts: int
    held: int
    before: float
    after: float
    gain: Metric | None
    used: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The user's rows: files, real training rows per label, folds, and what a user has to know about them."""

    files: tuple[DataFile, ...]
    per_label: Mapping[str, int] = field(default_factory=dict)
    folds: tuple[FoldFigures, ...] = ()
    pretraining: tuple[Pretraining, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Something that the run depends on or made: a file, a model, the bundle. `detail` is a version, a licence or a size."""

    name: str
    sha256: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of the run with the time it took when it was last made."""

    name: str
    seconds: float
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Enough to make the run again. `found` tells, a line each, which hyper-parameters a search found."""

    command: str
    seeds: Mapping[str, int]
    machine: str
    versions: Mapping[str, str]
    artifacts: tuple[Artifact, ...] = ()
    steps: tuple[Step, ...] = ()
    found: tuple[str, ...] = ()
