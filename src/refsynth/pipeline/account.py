"""The report's sections on origins: what became of the drafts, which rows were read, what the bundle was made from."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np

from refsynth.core.files import read_json, read_jsonl
from refsynth.core.hashes import file_digest
from refsynth.core.intervals import mean_interval
from refsynth.core.machine import describe_machine
from refsynth.core.run import seconds_of
from refsynth.core.scorers import SCORERS
from refsynth.core.types import Draft
from refsynth.core.version import __version__
from refsynth.evaluation import origins
from refsynth.learning.candidates import safe_for
from refsynth.learning.rows import Rows
from refsynth.pipeline.evidence import Evidence
from refsynth.synthesis.markup import with_marks
from refsynth.synthesis.prompts import can_write, known_only
from refsynth.synthesis.reinforcement.policies import RewardCurve
from refsynth.synthesis.rounds import Round
from refsynth.synthesis.selection.diversity import diversity

SHOWN = 6
"""Drafts shown from either end of the ranking."""

PACKAGES = ("numpy", "onnxruntime", "tokenizers", "torch", "transformers", "scikit-learn", "ctranslate2")


def drafts_of(evidence: Evidence) -> origins.Drafts:
    """Return what became of the drafts."""
    written, selected = evidence.learned.written, evidence.learned.selected
    chosen, dropped = _split(selected.generated)
    names = evidence.learned.rows.kind.names
    kept = Counter(name for draft in chosen for name in names(draft.example.label))
    asked = Counter(name for draft in written.drafts for name in names(draft.label))
    ranked = sorted(chosen, key=lambda draft: -draft.scores.get("agreement", 0.0))
    best, worst, rejected = ranked[:SHOWN], ranked[SHOWN:][-SHOWN:], _two_of_each(dropped)
    scores = [draft.scores["agreement"] for draft in selected.generated if "agreement" in draft.scores]
    agrees = np.array([score > 0.5 for score in scores], float)
    named = (("kept drafts", [d.example.text for d in chosen]), ("seed rows", [e.text for e in evidence.learned.final.real]))
    if evidence.learned.rows.kind.words:
        best, worst, rejected = ([replace(d, example=with_marks(d.example)) for d in some] for some in (best, worst, rejected))
    shown = {row for d in (*best, *worst, *rejected) if d.example.provenance for row in d.example.provenance.shown}
    return origins.Drafts(
        reference=written.reference,
        asked=written.asked,
        parsed=len(written.drafts),
        kept=len(chosen),
        dropped=dict(Counter(draft.dropped for draft in dropped if draft.dropped) + Counter(written.rejected)),
        seconds=seconds_of(read_jsonl(evidence.folder.path / "events.jsonl")).get("drafts"),
        per_class=tuple(origins.DraftCount(label=name, asked=asked[name], kept=kept[name]) for name in evidence.task.labels),
        diversity=tuple(origins.Diversity(name=name, **diversity(texts)._asdict()) for name, texts in named if len(texts) > 1),
        rounds=tuple(_round(one) for one in evidence.learned.rounds),
        reinforced=tuple(_reinforced(curve) for curve in evidence.learned.curves),
        coverage=origins.Coverage(**evidence.coverage._asdict()) if evidence.coverage else None,
        agreement=mean_interval("agreement", agrees) if len(agrees) else None,  # needs no groups: the screen dropped copies
        scores=tuple(_histograms(selected.generated)),
        best=tuple(best),
        worst=tuple(worst),
        rejected=tuple(rejected),
        seeds={example.id: example.text for example in evidence.learned.final.real if example.id in shown},
    )


def drafting_of(evidence: Evidence) -> origins.Drafting:
    """Return how many drafts the task asks for, and why there are none if none was written."""
    learned, config = evidence.learned, evidence.task.config
    requested, written, rows = config.synthesis.drafts, learned.written, len(learned.rows.examples)
    why = ""
    if requested and not written.drafts:
        why = "no answer of the reference could be read as a draft" if written.asked else "no drafts were requested"
        if not can_write(evidence.task, learned.rows.language):
            writer = f"the reference '{config.reference_spec.name}' writes {known_only(evidence.task)}"
            why = f"{writer}, and the texts are '{learned.rows.language}'; name another under reference in task.yaml"
        elif written.rejected:
            reason, count = max(written.rejected.items(), key=lambda pair: pair[1])
            why = f"{count:,} of {written.asked:,} answers could not be read ({reason})"
    return origins.Drafting(wanted=requested, rows=rows, hindrance=why, pool=len(learned.selected.from_pool))


def _reinforced(curve: RewardCurve) -> origins.Reinforced:
    turns = (
        origins.RewardTurn(reward=one.reward, gain=one.gain, faulty=one.faulty, distinct_2=one.distinct_2, kl=one.kl)
        for one in curve.turns
    )
    return origins.Reinforced(half=curve.half, turns=tuple(turns))


def _round(one: Round) -> origins.DraftRound:
    varied = one.diversity
    return origins.DraftRound(
        number=one.number,
        asked=one.asked,
        kept=one.kept,
        accuracy=one.accuracy,
        gain=one.gain,
        distinct_2=varied.distinct_2 if varied else None,
        self_bleu=varied.self_bleu if varied else None,
        coverage=one.coverage,
        used=one.used,
    )


def _split(drafts: Sequence[Draft]) -> tuple[list[Draft], list[Draft]]:
    return [d for d in drafts if d.dropped is None], [d for d in drafts if d.dropped is not None]


def _histograms(drafts: Sequence[Draft]) -> Iterator[origins.ScoreHistogram]:
    """Yield the scores of kept and dropped drafts by each scorer that was used."""
    for name, spec in SCORERS.items():
        kept, dropped = ([draft.scores[name] for draft in some if name in draft.scores] for some in _split(drafts))
        if kept or dropped:
            yield origins.ScoreHistogram.of(name, kept, dropped, better=spec.better)


def _two_of_each(dropped: Sequence[Draft]) -> list[Draft]:
    """Return up to two dropped drafts for each reason."""
    by_reason: dict[str | None, list[Draft]] = {}
    for draft in dropped:
        by_reason.setdefault(draft.dropped, []).append(draft)
    return [draft for drafts in by_reason.values() for draft in drafts[:2]]


def data_of(evidence: Evidence) -> origins.Data:
    """Return which rows were read, which were left out, and the folds."""
    rows, test = evidence.learned.rows, evidence.test
    files = [_train_file(rows)] if rows.file else []
    if test is not None and evidence.task.test is not None:
        skipped = tuple(origins.Skipped(reason=why, rows=tuple(numbers)) for why, numbers in test.unusable.items())
        name, used = evidence.task.test.name, len(test.truth)
        if evidence.overlap is not None and (same := evidence.overlap.same):
            used -= len(same)
            skipped = (*skipped, origins.Skipped(reason="also in train", rows=tuple(row.row for row in same)))
        files.append(origins.DataFile(role="test", file=name, rows=test.rows, used=used, skipped=skipped))
    pool = evidence.task.config.data.pool
    if pool is not None and (steps := evidence.folder.steps / "pool" / "facts.json").is_file():
        total, used = read_json(steps)["rows"], max(len(evidence.learned.selected.from_pool), evidence.studied)
        files.append(origins.DataFile(role="pool", file=pool.name, rows=total, used=used))
    folds = []
    for fold in np.unique(rows.folds):
        held = frozenset(rows.examples[index].id for index in np.flatnonzero(rows.folds == fold))
        gone = len(evidence.learned.screened) - len(safe_for(evidence.learned.screened, held))
        folds.append(origins.FoldFigures(rows=len(held), drafts_held_out=gone))
    return origins.Data(
        files=tuple(files),
        per_label=dict(rows.per_label),
        folds=tuple(folds),
        pretraining=evidence.learned.pretrained,
        notes=evidence.learned.notes,
    )


def _train_file(rows: Rows) -> origins.DataFile:
    skipped: dict[str, list[int]] = {}
    for row in rows.file["skipped"]:
        skipped.setdefault(row["reason"], []).append(row["row"])
    return origins.DataFile(
        role="train",
        file=rows.file["name"],
        rows=rows.file["rows"],
        used=len(rows.examples),
        format=rows.file["format"],
        skipped=tuple(origins.Skipped(reason=reason, rows=tuple(numbers)) for reason, numbers in skipped.items()),
    )


def lineage_of(evidence: Evidence) -> origins.Lineage:
    """Return what the bundle was made from and how to make it again."""
    folder = evidence.folder
    called = Path(sys.argv[0]).name in ("refsynth", "__main__.py")
    artifacts = [
        origins.Artifact(name=path.name, sha256=file_digest(path), detail=f"{path.stat().st_size:,} bytes")
        for path in sorted(evidence.bundle.iterdir())
    ]
    seconds = seconds_of(read_jsonl(folder.path / "events.jsonl"))
    return origins.Lineage(
        command=" ".join(["refsynth", *sys.argv[1:]]) if called else "refsynth.run(task, out=...)",
        seeds={"seed": evidence.task.config.seed},
        machine=describe_machine(),
        versions={"refsynth": __version__, "python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        artifacts=tuple(artifacts),
        found=tuple(found.line() for found in evidence.learned.final.found),
        steps=tuple(
            origins.Step(name=name, seconds=taken, sha256=folder.hash_of(name))
            for name, taken in seconds.items()
            if folder.done(name)
        ),
    )
