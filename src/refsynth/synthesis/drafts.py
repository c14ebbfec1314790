"""The steps of synthesis: plan the requests, ask the reference, augment real rows, and screen the drafts of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from refsynth.core.errors import InputError
from refsynth.core.files import read_json, read_jsonl, write_json, write_jsonl
from refsynth.core.hashes import derive_seed
from refsynth.core.protocols import Generator
from refsynth.core.run import RunFolder
from refsynth.core.scorers import scorers_key, scorers_of
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.types import Draft, Example, kept
from refsynth.learning.job import Job
from refsynth.models.reference.context import reference_key
from refsynth.synthesis.augment import Augmented, augment_rows
from refsynth.synthesis.build import make_augmenters, translator_hashes
from refsynth.synthesis.demand import demand_of, meanings_of
from refsynth.synthesis.draft_writer import Composed, DraftWriter, compose
from refsynth.synthesis.markup import without_marks
from refsynth.synthesis.plan import ANYWHERE, Focus
from refsynth.synthesis.prompts import can_write, known_only
from refsynth.synthesis.sample import prompts_of
from refsynth.synthesis.selection.context import ScorerContext, score_drafts
from refsynth.synthesis.selection.filter import drop_by, screen

LONGEST_DRAFT = 120
"""In words. A small reference loses the thread in longer drafts."""


@dataclass(frozen=True)
class WrittenDrafts:
    """The drafts that a step wrote.

    Attributes:
        folder: of the step.
        drafts: in plan order; augmented rows last.
        rejected: how many completions gave no draft, by reason.
        asked: how many drafts were asked for.
        reference: the names of the generators and augmenters, joined by " + ".
    """

    folder: Path
    drafts: tuple[Example, ...]
    rejected: Mapping[str, int]
    asked: int
    reference: str


def write_drafts(
    job: Job,
    writers: Sequence[DraftWriter],
    *,
    topics: Mapping[str, Sequence[str]],
    step: str = "drafts",
    turn: int = 0,
    focus: Focus = ANYWHERE,
) -> WrittenDrafts:
    """Return the drafts of the task. The reference is asked only for answers that are not on disk yet.

    Args:
        job: the task and its rows; the step is stored in its folder.
        writers: each writes an equal share.
        topics: of each label, for prompts.
        step: the name of the step.
        turn: the round, from 0. Each samples with its own seed; only the first augments real rows.
        focus: where drafts are needed.
    """
    task, rows, folder, watch = job.task, job.rows, job.folder, job.watch
    number = task.config.synthesis.drafts if can_write(task, rows.language) else 0
    if number < task.config.synthesis.drafts:
        writes = f"the reference '{task.config.reference_spec.name}' writes {known_only(task)}"
        watch.note(f"{writes}: no drafts. Name another under reference in task.yaml")
    focus = replace(focus, topics=topics)
    seed = task.config.seed if turn == 0 else derive_seed(task.config.seed, "round", turn)
    meanings, focus = demand_of(task, rows, focus)
    by_label = [sorted(each.items()) for each in (focus.need, focus.confused, focus.topics)]
    extra = {
        "authors": [[writer.name, writer.key] for writer in writers],
        "reference.content": reference_key(task.config),
        "translators": translator_hashes(task.config),
        "turn": turn,
        "focus": [*by_label, sorted(focus.hard)],
    }

    def make(out: Path) -> None:
        augmenters = make_augmenters(task.config, rows.language) if turn == 0 else []
        with watch.progress("drafts", number) as progress:
            composed = compose(
                writers, number, meanings, folder.path, language=rows.language, seed=seed, focus=focus, progress=progress
            )
        if rows.kind.words:
            unmarked, broken = without_marks(composed.drafts, task.labels)
            composed = composed._replace(drafts=unmarked, rejected={**composed.rejected, **broken})
        augmented = augment_rows(rows.examples, augmenters, copies=task.config.synthesis.copies, seed=task.config.seed)
        _store(out, composed, augmented, [augmenter.name for augmenter in augmenters])
        if composed.stopped:
            count = len(composed.drafts)
            watch.note(f"the request budget is used up: {count:,} drafts; raise reference.max_requests for more")

    # The journal lies beside the steps, so that a changed plan reuses the answers that are there.
    return _read(folder.step(STEPS["drafts"], make, config=settings_of(task.config), name=step, extra=extra))


def join_drafts(parts: Sequence[Path], folder: RunFolder) -> WrittenDrafts:
    """Return the drafts of several steps as one step of a run. A draft with the same id in two rounds counts once."""
    hashes = [read_json(part / "step.json")["hash"] for part in parts]

    def make(out: Path) -> None:
        drafts = {record["id"]: record for part in parts for record in read_jsonl(part / "drafts.jsonl")}
        prompts = {record["prompt"]: record for part in parts for record in read_jsonl(part / "prompts.jsonl")}
        facts = [read_json(part / "facts.json") for part in parts]
        write_jsonl(out / "drafts.jsonl", list(drafts.values()))
        write_jsonl(out / "prompts.jsonl", list(prompts.values()))
        rejected = sum((Counter(each["rejected"]) for each in facts), Counter[str]())
        total = {"rejected": rejected, "asked": sum(each["asked"] for each in facts), "reference": facts[0]["reference"]}
        write_json(out / "facts.json", total)

    return _read(folder.step(STEPS["union"], make, config={}, name="drafts", extra={"parts": hashes}))


def kept_drafts(folder: RunFolder) -> WrittenDrafts:
    """Return the drafts that a run folder holds.

    Raises:
        InputError: It holds none.
    """
    if not folder.done("drafts"):
        raise InputError(f"{folder.path}: no drafts yet", remedy=f"write them first: refsynth synthesize {folder.path}")
    return _read(folder.steps / "drafts")


def _read(done: Path) -> WrittenDrafts:
    facts = read_json(done / "facts.json")
    drafts = tuple(Example.from_json(record) for record in read_jsonl(done / "drafts.jsonl"))
    return WrittenDrafts(done, drafts, facts["rejected"], facts["asked"], facts["reference"])


def _store(out: Path, composed: Composed, augmented: Augmented, augmenters: Sequence[str]) -> None:
    write_jsonl(out / "drafts.jsonl", [draft.to_json() for draft in (*composed.drafts, *augmented.drafts)])
    write_jsonl(out / "prompts.jsonl", [*prompts_of(composed.requests), *augmented.prompts])
    asked = sum(request.n for request in composed.requests) + len(augmented.drafts)
    names = " + ".join(dict.fromkeys([*composed.generators, *augmenters]))
    write_json(out / "facts.json", {"rejected": dict(composed.rejected), "asked": asked, "reference": names or "none"})


def screen_drafts(job: Job, written: WrittenDrafts, make_generator: Callable[[], Generator], *, reference: str) -> list[Draft]:
    """Return all drafts, each kept or dropped for a reason that needs no trained model; see `selection.filter`.

    Args:
        job: the task and its rows.
        written: the drafts to screen.
        make_generator: makes the reference, which scores them.
        reference: the hash of the weights that the reference was trained to, if it was.
    """
    task, rows = job.task, job.rows
    # A reference that does not write the language cannot score its texts either.
    reads = ("text", "reference") if can_write(task, rows.language) else ("text",)
    scorers = [(spec, number) for spec, number in scorers_of(task.config.filter) if spec.reads in reads]
    asks = any(spec.reads == "reference" for spec, _ in scorers)
    extra = {
        "forget": sorted(job.forget),
        "none": job.outside.key,
        "reference": reference,
        "reference.content": reference_key(task.config) if asks else None,
        "scorers.outside": scorers_key(task.config.filter, rows=False),
    }

    paired, known = task.config.kind.pair, job.outside.known

    def make(out: Path) -> None:
        drafts = screen(written.drafts, rows.examples, longest=LONGEST_DRAFT, forget=job.forget, none=known, paired=paired)
        meanings = meanings_of(task, rows, {draft.label for draft in written.drafts})
        context = ScorerContext(task.labels, rows.kind, rows.language, meanings, make_generator)
        for spec, number in scorers:
            drafts = drop_by(spec, drafts, score_drafts(spec, context, kept(drafts)), number)
        write_jsonl(out / "drafts.jsonl", [draft.to_json() for draft in drafts])

    done = job.folder.step(STEPS["screen"], make, config=settings_of(task.config), extra=extra)
    return [Draft.from_json(record) for record in read_jsonl(done / "drafts.jsonl")]
