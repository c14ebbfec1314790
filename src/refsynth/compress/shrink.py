"""Finds the form of the winning candidate that meets the contract, measured on this machine and on held-out rows.

Size and latency are measured on bundles of untrained forms, which are as large and as fast as trained ones. Quality is measured
like in the gate: in each fold the teacher and its form see neither the held-out rows nor drafts that depend on them, and the form
answers in int8, as it would ship. The test file has no influence.
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
from refsynth.core.errors import ConfigError
from refsynth.core.files import read_json, size_of, write_json
from refsynth.core.hashes import derive_seed, digest, folder_digest
from refsynth.core.learners import LEARNERS
from refsynth.core.machine import describe_machine
from refsynth.core.protocols import Predictor
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.types import Array, Draft, Example, kept
from refsynth.kinds import Counts, as_json, from_json
from refsynth.learning.artifact import load_predictors, save_predictors
from refsynth.learning.candidates import Candidate, small_of
from refsynth.learning.final import Final
from refsynth.learning.folds import Fold, fit_fold, folds_of
from refsynth.learning.held import HeldOut
from refsynth.learning.job import Job, choosing_key, drafts_key, fitting_key
from refsynth.learning.selftrain import Choose
from refsynth.models.network import TransformerEncoder
from refsynth.models.predict import EncoderPredictor
from refsynth.models.tagger import TagPredictor

TIMED = 60
"""Texts on which the latency of a form is measured, one at a time, with the forms interleaved."""

WARM = 5
"""Texts that warm a form up before it is timed."""


class Shrunk(NamedTuple):
    """The form that ships, its logits of held-out rows [R, N, ...] (None if nothing was measured), and the search's outcome."""

    predictor: Predictor
    name: str
    logits: Array | None
    outcome: ContractOutcome | None


class Alternative(NamedTuple):
    """A bundle that competes with the forms, and what it keeps of the full form; None if that could not be measured."""

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
        held: the logits of all candidates for held-out rows.
        alternatives: finished bundles that may ship instead of a form, by name.
    """

    job: Job
    drafts: Sequence[Draft]
    choose: Choose
    final: Final
    shipped: Candidate
    held: HeldOut | None
    alternatives: Mapping[str, Alternative] = field(default_factory=dict)
    _logits: dict[str, Array] = field(default_factory=dict)

    def run(self, contract: Contract) -> Shrunk:
        """Return the form that ships; without a contract the candidate itself.

        Raises:
            ConfigError: there is a contract, and the shipped candidate is neither small nor can be made smaller.
        """
        own = None if self.held is None else self.held.as_shipped(self.shipped)
        finished = self.final.predictors(self.job.context)
        if contract == Contract():
            return Shrunk(finished[self.shipped], FULL, own, None)
        forms = self._measure(finished)
        outcome = search(contract, forms, None if self.held is None else self._quality)
        name = outcome.shipped.name
        if self.held is not None and (kept := self._kept(name)):  # the report has it even if the contract does not demand it
            shipped = outcome.shipped._replace(kept=kept.value, interval=kept.interval(tried=max(1, outcome.tried)))
            forms = tuple(shipped if form.name == name else form for form in outcome.forms)
            outcome = outcome._replace(shipped=shipped, forms=forms)
        self.job.watch.stage("contract", self._line(contract, outcome))
        return Shrunk(self._finish(name, finished), name, self._logits.get(name), outcome)

    def _line(self, contract: Contract, outcome: ContractOutcome) -> str:
        verdict = "met by" if outcome.met else "NOT met; the nearest is"
        unknown = f"; the kept share is unknown for: {', '.join(outcome.untold)}" if outcome.untold else ""
        return f"{contract}: {verdict} {outcome.shipped}{unknown}"

    def _names(self) -> tuple[str, ...]:
        simple = tuple(one.learner for one in small_of(LEARNERS, drafts=self.shipped.drafts) if one in self.final.candidates)
        if LEARNERS[self.shipped.learner].small:
            return simple
        teacher = self._teacher(self.final.predictors(self.job.context)[self.shipped], ())
        return (*(tuple(RECIPES) if can_shrink(teacher) else (FULL,)), *simple, *self.alternatives)

    def _simple(self, name: str) -> Candidate | None:
        """Return the candidate of a form without an encoder; None for the other forms."""
        return None if name == FULL else as_trained(name, self.shipped)

    def _teacher(self, predictor: Predictor, rows: Sequence[Example]) -> Teacher:
        if not isinstance(predictor, (EncoderPredictor, TagPredictor)) or not isinstance(predictor.encoder, TransformerEncoder):
            raise ConfigError(
                f"contract: the learner '{self.shipped.learner}' won, and no smaller form can be made of its "
                f"{type(predictor).__name__}",
                expected="a head on a transformer (EncoderPredictor or TagPredictor on a TransformerEncoder), or a learner whose "
                "LearnerSpec says that it is small",
                remedy="take out contract, or this learner",
            )
        return Teacher(predictor, predictor.encoder, rows, self.job.context.link)

    def _finish(self, name: str, finished: Mapping[Candidate, Predictor]) -> Predictor:
        if simple := self._simple(name):
            return finished[simple]
        if name == FULL or name in self.alternatives:
            return finished[self.shipped]
        context, folder = self.job.context, self.job.folder
        extra = {"shipped": str(self.shipped), "form": name, "texts": digest(self.job.pool.texts)}
        teacher = self._teacher(finished[self.shipped], self._rows())

        def make(out: Path) -> None:
            seed = derive_seed(self.job.task.config.seed, "student")
            form = shrink(teacher, name, self._texts(teacher.rows), seed=seed)
            save_predictors({"form": form}, out, base=context.encoder)

        done = folder.step(STEPS["smaller_form"], make, config=settings_of(self.job.task.config), extra=extra)
        return load_predictors(done, context.labels, base=context.encoder)["form"]

    def _rows(self) -> list[Example]:
        return [*self.final.real, *(kept(self.final.drafts) if self.shipped.drafts else ())]

    def _texts(self, rows: Sequence[Example]) -> list[str]:
        """Return the texts that a form is distilled on: the rows and the whole pool, since no labels are needed."""
        return list(dict.fromkeys([row.text for row in rows] + [row.text for row in self.job.pool.texts]))

    def _measure(self, finished: Mapping[Candidate, Predictor]) -> tuple[ModelVariant, ...]:
        """Return all forms with size and latency, measured once per run."""
        names = self._names()
        extra = {
            "shipped": str(self.shipped),
            "texts": digest([self.job.pool.texts, self.job.pool.reserved]),
            "beside": {name: folder_digest(one.bundle) for name, one in self.alternatives.items()},
            "machine": describe_machine(),
        }

        def make(out: Path) -> None:
            with tempfile.TemporaryDirectory(dir=out, prefix="trial-") as work:
                sketches = {name: self._sketch(name, finished, Path(work) / str(n)) for n, name in enumerate(names)}
                # A first tier is more confident on its training texts, so it would pass on too few of them.
                texts = [row.text for row in ((self.alternatives and self.job.pool.reserved) or self._rows())][:TIMED]
                latency = latencies({name: model for name, (_, model) in sketches.items()}, texts)
                forms = [[name, size, latency[name]] for name, (size, _) in sketches.items()]
            write_json(out / "forms.json", forms)

        done = self.job.folder.step(STEPS["forms"], make, config=settings_of(self.job.task.config), extra=extra)
        return tuple(ModelVariant(*one) for one in read_json(done / "forms.json"))

    def _sketch(self, name: str, finished: Mapping[Candidate, Predictor], out: Path) -> tuple[float, Model]:
        """Return the size in MB and the model of a form, which need not be trained."""
        if name in self.alternatives:
            bundle = self.alternatives[name].bundle
            return size_of(bundle), load(bundle)
        if self._simple(name):
            predictor = self._finish(name, finished)
        else:
            teacher = self._teacher(finished[self.shipped], self._rows())
            predictor, _ = cut(teacher, name, self._texts(teacher.rows))
        _bundle(self.job, predictor, out)
        return size_of(out / "bundle"), load(out / "bundle")

    def _quality(self, name: str) -> float | None:
        """Return the macro-F1 of a form on held-out rows as a share of the teacher's; None if it cannot be measured."""
        return None if (kept := self._kept(name)) is None else kept.value

    def _kept(self, name: str) -> Kept | None:
        assert self.held is not None
        if name in self.alternatives:
            less, full = self.alternatives[name].kept, self._kept(FULL)
            return None if less is None or full is None else less.times(full)
        if name not in self._logits:
            self._logits[name] = self._logits_of(name)
        whole, form = (self._counts(each) for each in (self.held.logits[self.shipped], self._logits[name]))
        return kept_of(whole, form, groups=self.held.groups)

    def _logits_of(self, name: str) -> Array:
        """Return the logits of a form for held-out rows [R, N, ...]."""
        assert self.held is not None
        if simple := self._simple(name):
            return self.held.logits[simple]
        return self.held.as_shipped(self.shipped) if name == FULL else self._hold_out(name)

    def _counts(self, logits: Array) -> list[Counts]:
        """Return the counts of the answers that follow from logits of held-out rows [R, N, ...], for each repeat."""
        assert self.held is not None
        kind, truth, k = self.held.kind, self.held.truth, len(self.job.task.labels)
        return [kind.counts(truth, answers, k) for answers in self.held.answers_of(logits)]

    def _hold_out(self, name: str) -> Array:
        """Return the int8 logits of a form for each row, by models that did not learn from its fold [R, N, ...]."""
        job = self.job
        assert self.held is not None
        folds = list(folds_of(job.task, job.rows, self.drafts))
        words, shape = job.context.kind.words, self.held.folds.shape
        out: Array = np.empty(shape, object) if words else np.empty((*shape, len(job.task.labels)))
        with job.watch.progress(f"form '{name}'", len(folds)) as progress:
            for done, fold in enumerate(folds):
                for place, logits in zip(fold.places, self._fold(name, fold), strict=True):
                    out[fold.repeat, place] = logits
                progress(done + 1)
        return out

    def _fold(self, name: str, fold: Fold) -> Array:
        """Return the logits of a form for a fold; it is made from the same model that the gate measured there."""
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
            names = {next(iter(job.learners)), self.shipped.learner}  # a distilled learner fits its teachers itself
            learners = {each: learner for each, learner in job.learners.items() if each in names}
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
        step = f"form_fold-{slug}-{fold.repeat}-{fold.number}"
        done = job.folder.step(STEPS["form_fold"], make, config=settings_of(job.task.config), name=step, extra=extra)
        return from_json(read_json(done / "logits.json"))


def as_trained(name: str, shipped: Candidate) -> Candidate | None:
    """Return the candidate that ships unchanged as the form of that name; None for smaller forms of a model."""
    if name == FULL:
        return shipped
    return Candidate(name, shipped.drafts) if name in LEARNERS and LEARNERS[name].small else None


def latencies(models: Mapping[str, Model], texts: Sequence[str]) -> dict[str, float]:
    """Return the median milliseconds per text of each model; models are interleaved, so that other load affects all alike."""
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
    """Write a trial bundle to `work`/bundle."""
    contents = Contents(
        labels=job.task.descriptions,
        language=job.context.language,
        task=job.task.config.task,
        tiers=[TierContents(pack(predictor, work / "export"), predictor, Calibration())],
    )
    save(work / "bundle", contents)
