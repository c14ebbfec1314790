"""From the candidate that won to the form of it that keeps the contract: measured on this machine, and on rows held out.

Size and latency are measured on bundles of untrained forms, which weigh and take what trained ones do. Quality is measured as the
gate measures: in each fold the teacher and its form see neither the held-out rows nor drafts that owe anything to them, and the
form answers in int8, as it would ship. The test file has no part in it.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refsynth.bundle.certificate import Calibration
from refsynth.bundle.model import Model, load
from refsynth.bundle.packing import pack
from refsynth.bundle.store import Contents, TierContents, save
from refsynth.compress.contract import Contract, ContractOutcome, ModelVariant, search
from refsynth.compress.forms import FULL, RECIPES, Teacher, can_shrink, cut, shrink
from refsynth.compress.keeping import Kept, kept_of
from refsynth.core.learners import LEARNERS
from refsynth.core.machine import describe_machine
from refsynth.core.protocols import Predictor
from refsynth.core.run import derive_seed, digest, folder_digest, read_json, size_of, write_json
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.types import Array, Draft, Example, kept
from refsynth.kinds import Counts, as_json, from_json
from refsynth.learning.artifact import load_predictors, save_predictors
from refsynth.learning.candidates import Candidate
from refsynth.learning.final import Final
from refsynth.learning.folds import Fold, fit_fold, folds_of
from refsynth.learning.held import HeldOut
from refsynth.learning.job import Job, choosing_key, drafts_key, fitting_key
from refsynth.learning.selftrain import Choose
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor
from refsynth.models.tagger import TagPredictor

TIMED = 60
"""Texts that a form is timed on, one at a time, forms in turn."""

WARM = 5

SIMPLE = tuple(name for name, spec in LEARNERS.items() if spec.small)
"""Learners without an encoder: what they have fitted is small as it is, and may be asked for beside the forms of another."""


class Shrunk(NamedTuple):
    """The form that ships, what it said of held-out rows, logits [R, N, ...] (None if nothing was measured), and the search."""

    predictor: Predictor
    name: str
    logits: Array | None
    outcome: ContractOutcome | None


class Alternative(NamedTuple):
    """A bundle that stands in the search beside the forms, and what it keeps of the full form; None where that cannot be told."""

    bundle: Path
    kept: Kept | None


@dataclass
class Shrinker:
    """Finds the form of the shipped candidate that meets the contract.

    Attributes:
        job: the run.
        drafts: screened drafts.
        choose: chooses among them.
        final: the candidates fitted to all rows.
        shipped: the candidate that won.
        held: what all candidates said of held-out rows.
        beside: finished bundles that may ship instead of a form, by name.
    """

    job: Job
    drafts: Sequence[Draft]
    choose: Choose
    final: Final
    shipped: Candidate
    held: HeldOut | None
    beside: Mapping[str, Alternative] = field(default_factory=dict)
    _answers: dict[str, Array] = field(default_factory=dict)

    def run(self, contract: Contract) -> Shrunk:
        """Return the form to ship; without a contract the candidate itself."""
        own = None if self.held is None else self.held.as_shipped(self.shipped)
        finished = self.final.predictors(self.job.context)
        if contract == Contract():
            return Shrunk(finished[self.shipped], FULL, own, None)
        forms = self._measure(finished)
        outcome = search(contract, forms, None if self.held is None else self._quality)
        name = outcome.shipped.name
        if self.held is not None and (kept := self._kept(name)):  # where nobody asked, the report tells
            shipped = outcome.shipped._replace(kept=kept.value, interval=kept.interval(tried=max(1, outcome.tried)))
            forms = tuple(shipped if form.name == name else form for form in outcome.forms)
            outcome = outcome._replace(shipped=shipped, forms=forms)
        self.job.watch.stage("contract", self._line(contract, outcome))
        return Shrunk(self._finish(name, finished), name, self._answers.get(name), outcome)

    def _line(self, contract: Contract, outcome: ContractOutcome) -> str:
        verdict = "met by" if outcome.met else "NOT met; the nearest is"
        untold = f"; what is kept cannot be told of: {', '.join(outcome.untold)}" if outcome.untold else ""
        return f"{contract}: {verdict} {outcome.shipped}{untold}"

    def _names(self) -> tuple[str, ...]:
        simple = tuple(name for name in SIMPLE if Candidate(name, self.shipped.drafts) in self.final.candidates)
        if self.shipped.learner in SIMPLE:
            return simple
        teacher = self._teacher(self.final.predictors(self.job.context)[self.shipped], ())
        return (*(tuple(RECIPES) if can_shrink(teacher) else (FULL,)), *simple, *self.beside)

    def _simple(self, name: str) -> Candidate | None:
        """Return the candidate that a form without an encoder is; None for the other forms."""
        return next((Candidate(each, self.shipped.drafts) for each in SIMPLE if each == name), None)

    def _teacher(self, predictor: Predictor, rows: Sequence[Example]) -> Teacher:
        if not isinstance(predictor, (EncoderPredictor, TagPredictor)) or not isinstance(predictor.encoder, TransformerEncoder):
            raise TypeError(f"a {type(predictor).__name__} cannot teach")
        return Teacher(predictor, predictor.encoder, rows, self.job.context.link)

    def _finish(self, name: str, finished: Mapping[Candidate, Predictor]) -> Predictor:
        if simple := self._simple(name):
            return finished[simple]
        if name == FULL or name in self.beside:
            return finished[self.shipped]
        context, folder = self.job.context, self.job.folder
        extra = {"shipped": str(self.shipped), "form": name, "texts": digest(self.job.pool.texts)}
        teacher = self._teacher(finished[self.shipped], self._rows())

        def make(out: Path) -> None:
            seed = derive_seed(self.job.task.config.seed, "student")
            student = shrink(teacher, name, self._texts(teacher.rows), seed=seed)
            save_predictors({"student": student}, out, base=context.encoder)

        done = folder.step(STEPS["student"], make, config=settings_of(self.job.task.config), extra=extra)
        return load_predictors(done, context.labels, base=context.encoder)["student"]

    def _rows(self) -> list[Example]:
        return [*self.final.real, *(kept(self.final.drafts) if self.shipped.drafts else ())]

    def _texts(self, rows: Sequence[Example]) -> list[str]:
        """Return what a student learns from: the rows, and all of the pool, whose labels nobody needs to know."""
        return list(dict.fromkeys([row.text for row in rows] + [row.text for row in self.job.pool.texts]))

    def _measure(self, finished: Mapping[Candidate, Predictor]) -> tuple[ModelVariant, ...]:
        """Return all forms with size and latency, measured once a run."""
        names = self._names()
        extra = {
            "shipped": str(self.shipped),
            "texts": digest([self.job.pool.texts, self.job.pool.reserved]),
            "beside": {name: folder_digest(one.bundle) for name, one in self.beside.items()},
            "machine": describe_machine(),
        }

        def make(out: Path) -> None:
            with tempfile.TemporaryDirectory(dir=out, prefix="trial-") as work:
                sketches = {name: self._sketch(name, finished, Path(work) / str(n)) for n, name in enumerate(names)}
                # What a first tier has learnt from it is surer of than of later texts.
                texts = [row.text for row in ((self.beside and self.job.pool.reserved) or self._rows())][:TIMED]
                latency = latencies({name: model for name, (_, model) in sketches.items()}, texts)
                forms = [[name, size, latency[name]] for name, (size, _) in sketches.items()]
            write_json(out / "forms.json", forms)

        done = self.job.folder.step(STEPS["forms"], make, config=settings_of(self.job.task.config), extra=extra)
        return tuple(ModelVariant(*one) for one in read_json(done / "forms.json"))

    def _sketch(self, name: str, finished: Mapping[Candidate, Predictor], out: Path) -> tuple[float, Model]:
        """Return the size in MB and the model of a form that need not have learnt anything yet."""
        if name in self.beside:
            bundle = self.beside[name].bundle
            return size_of(bundle), load(bundle)
        if self._simple(name):
            predictor = self._finish(name, finished)
        else:
            teacher = self._teacher(finished[self.shipped], self._rows())
            predictor, _ = cut(teacher, name, self._texts(teacher.rows))
        _bundle(self.job, predictor, out)
        return size_of(out / "bundle"), load(out / "bundle")

    def _quality(self, name: str) -> float | None:
        """Return the macro-F1 of a form on held-out rows as a share of the teacher's."""
        return None if (kept := self._kept(name)) is None else kept.value

    def _kept(self, name: str) -> Kept | None:
        assert self.held is not None
        if name in self.beside:
            less, full = self.beside[name].kept, self._kept(FULL)
            return None if less is None or full is None else less.times(full)
        if name not in self._answers:
            self._ask(name)
        whole, form = (self._counts(each) for each in (self.held.logits[self.shipped], self._answers[name]))
        return kept_of(whole, form, groups=self.held.groups)

    def _ask(self, name: str) -> None:
        assert self.held is not None
        if simple := self._simple(name):
            self._answers[name] = self.held.logits[simple]
        elif name == FULL:
            self._answers[name] = self.held.as_shipped(self.shipped)
        else:
            self._answers[name] = self._hold_out(name)

    def _counts(self, logits: Array) -> list[Counts]:
        """Return what answers to the held-out rows by their logits [R, N, ...] come to, for each repeat."""
        assert self.held is not None
        kind, truth, k = self.held.kind, self.held.truth, len(self.job.task.labels)
        return [kind.counts(truth, answers, k) for answers in self.held.answers_of(logits)]

    def _hold_out(self, name: str) -> Array:
        """Return what a form says in int8 of each row when its fold is held out, logits [R, N, ...]."""
        job = self.job
        assert self.held is not None
        folds = list(folds_of(job.task, job.rows, self.drafts))
        spans, shape = job.context.kind.spans, self.held.folds.shape
        out: Array = np.empty(shape, object) if spans else np.empty((*shape, len(job.task.labels)))
        with job.watch.progress(f"form '{name}'", len(folds)) as progress:
            for done, fold in enumerate(folds):
                for place, logits in zip(fold.places, self._fold(name, fold), strict=True):
                    out[fold.repeat, place] = logits
                progress(done + 1)
        return out

    def _fold(self, name: str, fold: Fold) -> Array:
        """Return what a form says of a fold: made of the very model that the gate measured there, as it ships."""
        job, rows = self.job, self.job.rows
        extra = {
            "texts": digest(job.pool.texts),
            "shipped": str(self.shipped),
            "form": name,
            "drafts": drafts_key(fold.drafts),
            **fitting_key(job),
            **choosing_key(job),
        }

        def make(path: Path) -> None:
            wanted = {next(iter(job.learners)), self.shipped.learner}  # a student asks its teachers by itself
            learners = {each: learner for each, learner in job.learners.items() if each in wanted}
            fitted = fit_fold(fold, job.task, rows, learners, self.choose)
            candidate = self.shipped if self.shipped in fitted.predictors else self.shipped._replace(drafts=False)
            learned = [*fold.train, *(kept(fitted.drafts) if candidate.drafts else ())]
            teacher = self._teacher(fitted.predictors[candidate], learned)
            form = shrink(teacher, name, self._texts(learned), seed=derive_seed(fold.seed, "student"))
            with tempfile.TemporaryDirectory(dir=path, prefix="trial-") as work:
                _bundle(job, form, Path(work))
                logits = load(Path(work) / "bundle").logits(fold.texts)
            write_json(path / "logits.json", as_json(logits))

        slug = name.replace(",", "").replace(" ", "-")
        step = f"form-{slug}-{fold.repeat}-{fold.number}"
        done = job.folder.step(STEPS["cut"], make, config=settings_of(job.task.config), name=step, extra=extra)
        return from_json(read_json(done / "logits.json"))


def latencies(models: Mapping[str, Model], texts: Sequence[str]) -> dict[str, float]:
    """Return the median milliseconds that each model takes for one text; in turns, so that all meet the same neighbours."""
    for model in models.values():
        for text in texts[:WARM]:
            model.predict([text])
    times: dict[str, list[float]] = {name: [] for name in models}
    for text in texts:
        for name, model in models.items():
            started = time.perf_counter()
            model.predict([text])
            times[name].append(1000 * (time.perf_counter() - started))
    return {name: float(np.median(values)) for name, values in times.items()}


def _bundle(job: Job, predictor: Predictor, work: Path) -> None:
    """Write a bundle to try, `work`/bundle."""
    contents = Contents(
        labels=job.task.descriptions,
        language=job.context.language,
        task=job.task.config.task,
        tiers=[TierContents(pack(predictor, work / "export"), predictor, Calibration())],
    )
    save(work / "bundle", contents)
