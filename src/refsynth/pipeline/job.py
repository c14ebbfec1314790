"""A run under way: the task with everything that its stages need to begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Self

from refsynth.annotate.selftrain import Choose, SelfTrainer, Unlabelled
from refsynth.core.drafting import EndpointReference
from refsynth.core.protocols import Augmenter, Generator, Learner
from refsynth.core.run import RunFolder, digest
from refsynth.core.sections import ContractConfig, LearnerName
from refsynth.core.types import Draft
from refsynth.core.windows import REACH, Windows
from refsynth.evaluation.origins import Pretraining
from refsynth.models.store import ModelStore
from refsynth.pipeline.author import Author
from refsynth.pipeline.build import Source, make_augmenters, make_remembering, trainable
from refsynth.pipeline.choose import Chooser
from refsynth.pipeline.drafts import LONGEST_DRAFT, Written, can_write, screen_drafts, write_drafts
from refsynth.pipeline.encoder import prepare_encoder
from refsynth.pipeline.forecast import gate_forecast
from refsynth.pipeline.gate import hold_out
from refsynth.pipeline.held import HeldOut
from refsynth.pipeline.judged import judge_drafts
from refsynth.pipeline.lesson import Lesson, halves
from refsynth.pipeline.marked import shown_rows
from refsynth.pipeline.observe import Observer
from refsynth.pipeline.outside import NOTHING, Outside, read_outside
from refsynth.pipeline.policies import Curve, teach
from refsynth.pipeline.pool import Parted, TextPool, parted_pool, read_pool
from refsynth.pipeline.pretrain import Adapted, pretrain_encoder, pretrain_reference
from refsynth.pipeline.rows import Rows, read_rows
from refsynth.pipeline.topics import topics_of
from refsynth.pipeline.workshop import Workshop, make_learners, make_workshop
from refsynth.prompting.templates import templates_for
from refsynth.synthesis.plan import ANYWHERE, Focus
from refsynth.task import Task


def long_notes(longer: int, cut: int, longest: int, windows: Windows) -> list[str]:
    """Return what is read of rows that are longer than an encoder reads at once, and of how many a part is not."""
    if not longer:
        return []
    have = "row has" if longer == 1 else "rows have"
    how = {
        "cut": f"of each the first {longest} are read",
        "head_tail": f"of each the first and the last {longest // 2} are read",
        "mean": "they are read in windows" + (f", of {cut} the first {REACH} of them" if cut else ""),
    }
    return [f"{longer:,} {have} more than {longest} tokens: {how[windows]} (training.windows: {windows})"]


@dataclass(frozen=True)
class Job:
    """What the stages of a run share.

    `skip_bad` says that unusable rows are left out instead of ending the run; `forget` are ids of drafts that resemble test rows;
    `outside` are texts that none of the labels fits.
    """

    task: Task
    rows: Rows
    shop: Workshop
    store: ModelStore
    folder: RunFolder
    watch: Observer
    skip_bad: bool = False
    forget: Sequence[str] = ()
    brought: tuple[Pretraining, ...] = ()
    outside: Outside = NOTHING

    @classmethod
    def begin(
        cls,
        task: Task,
        folder: RunFolder,
        store: ModelStore,
        watch: Observer,
        *,
        skip_bad: bool,
        forget: Sequence[str] = (),
    ) -> Self:
        """Read the rows and load the encoder of their language, pretrained on the pool where that is asked for.

        Raises:
            RefsynthError: the rows cannot be used, or the encoder is not here.
        """
        rows = read_rows(task, folder, skip_bad=skip_bad)
        outside = read_outside(task, rows, folder, skip_bad=skip_bad)
        if "prompt" in task.config.learners:
            templates_for(rows.language, task.config.prompting.templates)  # that they fit should be known before hours of work
        if task.config.pretrain.reference:
            trainable(task.config, store)  # the same
        pretrained = bool(task.config.pretrain.encoder)
        texts = parted_pool(task, read_pool(task, rows, folder, outside), forget=forget).learnt if pretrained else ()
        plain = prepare_encoder(task, rows, store, folder, [row.text for row in texts])
        encoder, brought = pretrain_encoder(task, rows, plain, texts, folder, watch, again=bool(forget))
        checkpoints = folder.path / "checkpoints"
        causal = trainable(task.config, store).folder if "causal_lora" in task.config.learners else None
        shop = make_workshop(
            task,
            rows.language,
            encoder,
            max_tokens=task.config.training.max_tokens,
            windows=task.config.windows,
            checkpoints=checkpoints,
            causal=causal,
            reference=partial(make_remembering, task.config, store, folder.path),
        )
        brought_all = () if brought is None else (brought,)
        return cls(task, rows, shop, store, folder, watch, skip_bad, forget, brought_all, outside)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a user has to know about the rows."""
        notes = (*self.rows.notes, *self.outside.notes)
        if set(self.task.config.learners) <= {"tfidf", "crf", "prompt"}:  # these read all
            return notes
        encoder, windows = self.shop.encoder, self.task.config.windows
        longer, cut = encoder.longer([row.text for row in self.rows.examples], words=self.rows.kind.spans)
        return (*notes, *long_notes(longer, cut, encoder.max_tokens, windows))

    def forgetting(self, leaked: Sequence[str]) -> Self:
        """Return the run without drafts, and texts of the pool, that resemble test rows; what learnt from these learns again."""
        if self.brought:
            return type(self).begin(self.task, self.folder, self.store, self.watch, skip_bad=self.skip_bad, forget=leaked)
        return replace(self, forget=leaked)

    @cached_property
    def taught(self) -> tuple[tuple[Author, ...], tuple[Curve, ...]]:
        """The authors, and the curves of those that were reinforced; without reinforcement the reference as it comes."""
        config = self.task.config
        shown = shown_rows(self.rows.examples) if self.rows.kind.spans else self.rows.examples
        plain = Author("", self.source.hash, self.generator, config.synthesis, shown, self.rows.folds)
        if not (config.reinforce.turns and config.synthesis.drafts and can_write(self.task, self.rows.language)):
            return (plain,), ()
        parts = halves(self.rows)
        if not all(part.judges for part in parts):
            self.watch.note("too few labelled rows to reward a policy: the reference writes as it is")
            return (plain,), ()
        source = self.source
        lesson = partial(Lesson, longest=LONGEST_DRAFT, topics=self.topics)
        taught = [teach(lesson(self.task, part, self.shop, source, self.folder, self.watch)) for part in parts]
        for _, curve in taught:
            self.watch.stage("reinforce", curve.line())
        return tuple(author for authors, _ in taught for author in authors), tuple(curve for _, curve in taught)

    def generator(self) -> Generator:
        """Return the reference, as it writes after pretraining; of an endpoint always the same, which counts requests."""
        return self._served if isinstance(self.task.config.reference, EndpointReference) else self._fresh()

    def _fresh(self) -> Generator:
        return self.source.generator(self.task.config)

    @cached_property
    def _served(self) -> Generator:
        return make_remembering(self.task.config, self.store, self.folder.path)

    @property
    def source(self) -> Source:
        """Where the reference comes from."""
        return self._adapted.source

    @property
    def pretrained(self) -> tuple[Pretraining, ...]:
        """What pretraining brought to the encoder and to the reference."""
        brought = self._adapted.brought
        return self.brought if brought is None else (*self.brought, brought)

    @cached_property
    def _adapted(self) -> Adapted:
        config = self.task.config
        source = Source(self.store)
        if not (config.pretrain.reference and config.synthesis.drafts and can_write(self.task, self.rows.language)):
            return Adapted(source, None)
        return pretrain_reference(self.task, self.rows, source, self.pool.texts, self.folder, self.watch, again=bool(self.forget))

    def augmenters(self, language: str) -> Sequence[Augmenter]:
        """Return the augmenters."""
        return make_augmenters(self.task.config, language)

    @cached_property
    def learners(self) -> dict[LearnerName, Learner]:
        """The learners, the most preferred first; they remember what they tuned."""
        texts = tuple(row.text for row in self.pool.texts) if self._distils else ()
        return make_learners(replace(self.shop, unlabelled=texts), self.task.config.learners)

    @property
    def _distils(self) -> bool:
        return "distilled" in self.task.config.learners

    def chooser(self, drafts: Sequence[Draft]) -> Chooser:
        """Return who chooses among the drafts."""
        return Chooser(self.task.labels, self.task.config.filter, self.shop.encoder, self.rows, drafts, self.rows.kind)

    @cached_property
    def pool(self) -> TextPool:
        """The unlabelled texts to learn from, without those that resemble test rows or are set aside."""
        return self._read._replace(texts=self._parted.learnt)

    @property
    def aside(self) -> tuple[Unlabelled, ...]:
        """Unlabelled texts that nothing learns from; none unless there are tiers to compare."""
        return self._parted.aside

    @cached_property
    def _read(self) -> TextPool:
        pool = read_pool(self.task, self.rows, self.folder, self.outside)
        if pool.unreadable:
            self.watch.note(f"data.pool: {pool.unreadable:,} of {pool.rows:,} rows cannot be read and are left out")
        return pool

    @cached_property
    def _parted(self) -> Parted:
        return parted_pool(self.task, self._read, forget=self.forget)

    @property
    def studied(self) -> tuple[Unlabelled, ...]:
        """The texts of the pool that models, or students of what ships, have learnt from without a label."""
        config = self.task.config
        taught = self._distils or config.compress.tiers != "one" or config.contract != ContractConfig()
        return self.pool.texts if taught or any(one.used for one in self.pretrained) else ()

    @property
    def pool_key(self) -> str:
        """The hash of the texts that self-training and students learn from, for the cache; empty without them."""
        texts = self.pool.texts if self.task.config.selftrain.per_class or self._distils else ()
        return digest(texts) if texts else ""

    def choice(self, drafts: Sequence[Draft]) -> Choose:
        """Return how drafts are chosen; the texts of the pool that the judge is sure of join them."""
        settings = self.task.config.selftrain
        texts = self.pool.texts if settings.per_class else ()
        trainer = SelfTrainer(self.task.labels, texts, settings.per_class, settings.least)
        return trainer.joined(self.chooser(drafts).choose)

    @cached_property
    def topics(self) -> dict[str, tuple[str, ...]]:
        """What the pool's texts are about, by the label that they are nearest to, where prompts ask for it."""
        if "topics" not in self.task.config.synthesis.ways:
            return {}
        found = topics_of(self.task, self.pool, self.rows.language, self.shop, self.folder)
        if not found:
            self.watch.note("too few unlabelled texts for topics: prompts ask by examples instead")
        return found

    def write(self, folder: RunFolder, *, step: str = "drafts", turn: int = 0, focus: Focus = ANYWHERE) -> Written:
        """Return drafts; see `write_drafts`."""
        if self.task.config.reinforce.turns and turn == 0:
            self.augmenters(self.rows.language)  # that they are here should be known before hours of reinforcement
        authors, _ = self.taught
        focus = replace(focus, topics=self.topics)
        return write_drafts(self.task, self.rows, folder, authors, self.augmenters, self.watch, step=step, turn=turn, focus=focus)

    def screen(self, written: Written, folder: RunFolder) -> list[Draft]:
        """Return the drafts screened, and judged by the reference where that is what they teach; see `screen_drafts`."""
        learnt = self.source.hash
        screened = screen_drafts(
            self.task,
            self.rows,
            written,
            folder,
            self.generator,
            forget=self.forget,
            reference=learnt,
            outside=self.outside,
        )
        return self.judged(screened, folder) if self.task.config.filter.targets == "ensemble" else screened

    def judged(self, screened: Sequence[Draft], folder: RunFolder) -> list[Draft]:
        """Return the drafts with what the reference says of their class; see `judge_drafts`."""
        shop = self.shop
        return judge_drafts(
            self.task,
            self.rows,
            screened,
            folder,
            self.generator,
            shop.encoder,
            self.watch,
            encoder_hash=shop.encoder_hash,
            reference=self.source.hash,
        )

    def hold_out(self, drafts: Sequence[Draft], folder: RunFolder) -> HeldOut | None:
        """Return what every candidate says of held-out rows; None where there are too few rows to hold any out."""
        if not self.rows.judged:
            return None
        gate = self.task.config.gate
        if told := gate_forecast(folder, gate.repeats * gate.folds):
            self.watch.forecast(told)
        with self.watch.progress("gate", gate.repeats * gate.folds) as progress:
            return hold_out(
                self.rows,
                drafts,
                self.learners,
                self.choice(drafts),
                self.shop.encoder_hash,
                self.task,
                folder,
                progress,
                pool=self.pool_key,
                outside=self.outside,
            )
