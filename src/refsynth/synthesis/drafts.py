"""Synthesis as steps: plan, ask the reference, change copies of real rows, screen what comes of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from refsynth.core.errors import InputError
from refsynth.core.protocols import Generator
from refsynth.core.run import RunFolder, derive_seed, read_json, read_jsonl, write_json, write_jsonl
from refsynth.core.scorers import scorers_key, scorers_of
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.types import Draft, Example, kept
from refsynth.learning.job import Job
from refsynth.models.reference.context import reference_key
from refsynth.synthesis.augment import Augmented, augment_rows
from refsynth.synthesis.build import make_augmenters, translators_of
from refsynth.synthesis.demand import meanings_of, wanted
from refsynth.synthesis.draft_writer import Composed, DraftWriter, compose
from refsynth.synthesis.markup import without_marks
from refsynth.synthesis.plan import ANYWHERE, Focus
from refsynth.synthesis.prompts import can_write, known_only
from refsynth.synthesis.sample import prompts_of
from refsynth.synthesis.selection.context import ScorerContext, score_drafts
from refsynth.synthesis.selection.filter import drop_by, screen

LONGEST_DRAFT = 120
"""Words: a small reference wanders off in longer drafts."""


@dataclass(frozen=True)
class WrittenDrafts:
    """Drafts in plan order, then augmented rows; how many completions gave none, by reason; who wrote, joined by " + ".

    `folder` is the step that holds them.
    """

    folder: Path
    drafts: tuple[Example, ...]
    rejected: Mapping[str, int]
    asked: int
    reference: str


def write_drafts(
    job: Job,
    authors: Sequence[DraftWriter],
    *,
    topics: Mapping[str, Sequence[str]],
    step: str = "drafts",
    turn: int = 0,
    focus: Focus = ANYWHERE,
) -> WrittenDrafts:
    """Return the drafts of the task, asking the reference only for what is not on disk yet.

    Args:
        job: the task and its rows; the step is kept in its folder.
        authors: who write, in equal shares.
        topics: what prompts may ask for, by label.
        step: the name that the result is kept under.
        turn: the round; each samples anew. Real rows are augmented in the first only.
        focus: where drafts are needed.
    """
    task, rows, folder, watch = job.task, job.rows, job.folder, job.watch
    number = task.config.synthesis.drafts if can_write(task, rows.language) else 0
    if number < task.config.synthesis.drafts:
        who = f"the reference '{task.config.writer.name}' writes {known_only(task)}"
        watch.note(f"{who}: no drafts. Another is a line in task.yaml: reference")
    focus = replace(focus, topics=topics)
    seed = task.config.seed if turn == 0 else derive_seed(task.config.seed, "round", turn)
    meanings, focus = wanted(task, rows, focus)
    wants = [sorted(each.items()) for each in (focus.need, focus.confused, focus.topics)]
    extra = {
        "authors": [[author.name, author.key] for author in authors],
        "reference.content": reference_key(task.config),
        "translators": translators_of(task.config),
        "turn": turn,
        "focus": [*wants, sorted(focus.hard)],
    }

    def make(out: Path) -> None:
        augmenters = make_augmenters(task.config, rows.language) if turn == 0 else []
        with watch.progress("drafts", number) as progress:
            composed = compose(
                authors, number, meanings, folder.path, language=rows.language, seed=seed, focus=focus, progress=progress
            )
        if rows.kind.spans:
            unmarked, broken = without_marks(composed.drafts, task.labels)
            composed = composed._replace(drafts=unmarked, rejected={**composed.rejected, **broken})
        augmented = augment_rows(rows.examples, augmenters, copies=task.config.synthesis.copies, seed=task.config.seed)
        _store(out, composed, augmented, [augmenter.name for augmenter in augmenters])
        if composed.stopped:
            count = len(composed.drafts)
            watch.note(f"the request budget is used up: {count:,} drafts; raise reference.max_requests for more")

    # The journal lies beside the steps: what was answered is not asked again when the plan changes.
    return _read(folder.step(STEPS["drafts"], make, config=settings_of(task.config), name=step, extra=extra))


def join_drafts(parts: Sequence[Path], folder: RunFolder) -> WrittenDrafts:
    """Return the drafts of several steps as one step of a run; a draft that two rounds wrote alike counts once."""
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
    """Return the drafts that a run has, however they were asked for.

    Raises:
        InputError: it has none.
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
    writers = " + ".join(dict.fromkeys([*composed.writers, *augmenters]))
    write_json(out / "facts.json", {"rejected": dict(composed.rejected), "asked": asked, "reference": writers or "none"})


def screen_drafts(job: Job, written: WrittenDrafts, make_generator: Callable[[], Generator], *, reference: str) -> list[Draft]:
    """Return the drafts with what is wrong with them before any model is trained; see `selection.filter`.

    Args:
        job: the task and its rows.
        written: what to screen.
        make_generator: makes the reference, which judges them.
        reference: the hash of what it has learned before it is asked.
    """
    task, rows = job.task, job.rows
    able = can_write(task, rows.language)  # what it cannot write it cannot judge
    reads = ("text", "reference") if able else ("text",)
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
