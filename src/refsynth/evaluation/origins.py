"""The report's sections on the data behind a model: drafts, rows, files. Frozen dataclasses of plain values."""

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

    Attributes:
        distinct_1: share of distinct words (Li et al., 2016).
        distinct_2: share of distinct word pairs.
        self_bleu: mean BLEU of a text against all others (Zhu et al., 2018).
        nearest_overlap: mean similarity of a text to its nearest neighbor in the set.
    """

    name: str
    distinct_1: float
    distinct_2: float
    self_bleu: float
    nearest_overlap: float
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Share of `n` real rows with one of `drafts` drafts nearer than their k-th nearest real row (Naeem et al., 2020).

    `expected` is the share that as many drafts from the distribution of the real rows would cover.
    """

    value: float
    expected: float
    k: int
    n: int
    drafts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreHistogram:
    """The histogram of one scorer's scores of kept and of dropped drafts, with B + 1 `edges`."""

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
    """The drafts of all rounds up to this one.

    Attributes:
        asked: number of drafts requested.
        kept: number of drafts that passed the filter.
        accuracy: on held-out rows, with drafts.
        gain: over real rows only.
        distinct_2: share of distinct word pairs.
        used: whether the run uses them.
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
    """The texts of one turn of reinforcement learning.

    Attributes:
        reward: mean reward, on the scale of the first turn.
        gain: mean gain of the valid texts, in nats of held-out loss.
        faulty: share of invalid texts.
        distinct_2: share of distinct word pairs.
        kl: divergence from the reference, in nats per token.
    """

    reward: float
    gain: float
    faulty: float
    distinct_2: float
    kl: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reinforced:
    """The turns of the policy that was rewarded by one half of the folds."""

    half: str
    turns: tuple[RewardTurn, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafts:
    """The drafts that the reference wrote.

    Attributes:
        asked: number of drafts requested.
        parsed: number of drafts parsed.
        kept: number of drafts that passed the filter.
        dropped: number of dropped drafts by reason.
        agreement: share of parsed drafts whose label a model trained on real rows confirms.
        best: kept drafts with the highest ranks.
        worst: kept drafts with the lowest ranks.
        seeds: the texts of the ids in the drafts' provenance.
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
    """The drafts that a run requested, which its other sections do not tell.

    Attributes:
        wanted: number of drafts in task.yaml.
        rows: number of real rows that the bundle learned from.
        hindrance: why no draft was written; empty if some were.
        pool: number of unlabeled texts that joined the drafts.
    """

    wanted: int
    rows: int
    hindrance: str = ""
    pool: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """The rows of a file that were left out for one reason."""

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
    """A fold: its number of held-out real rows, and of drafts held out with them because their prompts showed such a row."""

    rows: int
    drafts_held_out: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretraining:
    """The pretraining of a model on unlabeled texts.

    Attributes:
        held: number of other texts, on which perplexity is measured (of masked words for an encoder).
        gain: of frozen embeddings, on held-out real rows.
        used: whether the run uses the pretrained model.
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
    """The user's data: files, number of training rows per label, folds, and notes."""

    files: tuple[DataFile, ...]
    per_label: Mapping[str, int] = field(default_factory=dict)
    folds: tuple[FoldFigures, ...] = ()
    pretraining: tuple[Pretraining, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """An input or output of the run: a file, a model, the bundle. `detail` is a version, a license or a size."""

    name: str
    sha256: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step of the run, with the time of its last execution."""

    name: str
    seconds: float
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """All that is needed to repeat the run. `found` has one line for each hyperparameter search."""

    command: str
    seeds: Mapping[str, int]
    machine: str
    versions: Mapping[str, str]
    artifacts: tuple[Artifact, ...] = ()
    steps: tuple[Step, ...] = ()
    found: tuple[str, ...] = ()
