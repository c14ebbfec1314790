"""Synthesis as steps: plan, ask the reference, change copies of real rows, screen what comes of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from refsynth.core.protocols import Augmenter, Generator
from refsynth.core.run import RunFolder, read_json, read_jsonl, write_json, write_jsonl
from refsynth.core.types import Draft, Example
from refsynth.pipeline.observe import Observer
from refsynth.pipeline.rows import Rows
from refsynth.quality.filter import drop_unlikely, kept, screen
from refsynth.quality.scorers import LikelihoodRatioScorer
from refsynth.synthesis.augment import Augmented, augment_rows
from refsynth.synthesis.plan import Brief, Request, plan_requests
from refsynth.synthesis.prompts import class_prompt, generic_prompt
from refsynth.synthesis.sample import Synthesis, prompts_of, synthesize
from refsynth.task import Task

LONGEST_DRAFT = 120
"""Words: a small reference wanders off in longer drafts."""

EMBEDDED_LANGUAGE = "en"
"""What the embedded reference was trained to write; its Chinese, for one, is no language."""


@dataclass(frozen=True)
class Written:
    """Drafts in plan order, then augmented rows; how many completions gave none, by reason; who wrote, joined by " + "."""

    drafts: tuple[Example, ...]
    rejected: Mapping[str, int]
    asked: int
    reference: str


def write_drafts(
    task: Task,
    rows: Rows,
    folder: RunFolder,
    make_generator: Callable[[], Generator],
    make_augmenters: Callable[[str], Sequence[Augmenter]],
    watch: Observer,
) -> Written:
    """Return the drafts of the task, asking the reference only for what is not on disk yet."""
    settings = task.config.synthesis
    wanted = settings.drafts
    if wanted and task.config.reference == "embedded" and rows.language != EMBEDDED_LANGUAGE:
        watch.note("the embedded reference writes English only: no drafts. A larger one is a line in task.yaml: reference")
        wanted = 0
    config = task.config.digest_of("reference", "synthesis", "labels", "seed")
    key = {"rows": folder.hash_of("rows"), "config": config, "language": rows.language}

    def make(out: Path) -> None:
        brief = Brief(wanted, settings.shots, settings.per_prompt, settings.ways, language=rows.language, seed=task.config.seed)
        requests = plan_requests(rows.examples, rows.folds, task.descriptions, brief)
        augmenters = make_augmenters(rows.language)  # first: what is missing is told before minutes are spent on drafts
        written, writers = Synthesis((), {}, stopped=False), []
        if requests:  # a reference that is not asked need not be there
            generator = make_generator()
            writers.append(generator.name)
            with watch.progress("drafts", wanted) as progress:
                written = synthesize(
                    requests,
                    generator,
                    decoding=settings.model_dump(include={"temperature", "top_p", "max_tokens"}),
                    journal=folder.path / "journal.jsonl",
                    texts={example.id: example.text for example in rows.examples},
                    language=rows.language,
                    seed=task.config.seed,
                    progress=progress,
                )
        augmented = augment_rows(rows.examples, augmenters, copies=settings.copies, seed=task.config.seed)
        writers += [augmenter.name for augmenter in augmenters]
        _store(out, requests, written, augmented, writers)
        if written.stopped:
            watch.note(f"the request budget is used up: {len(written.drafts):,} drafts; raise reference.max_requests for more")

    # The journal lies beside the steps: what was answered is not asked again when the plan changes.
    done = folder.step("drafts", key, make)
    facts = read_json(done / "facts.json")
    drafts = tuple(Example.from_json(record) for record in read_jsonl(done / "drafts.jsonl"))
    return Written(drafts, facts["rejected"], facts["asked"], facts["reference"])


def _store(out: Path, requests: Sequence[Request], written: Synthesis, augmented: Augmented, writers: Sequence[str]) -> None:
    write_jsonl(out / "drafts.jsonl", [draft.to_json() for draft in (*written.drafts, *augmented.drafts)])
    write_jsonl(out / "prompts.jsonl", [*prompts_of(requests), *augmented.prompts])
    asked = sum(request.n for request in requests) + len(augmented.drafts)
    facts = {"rejected": written.rejected, "asked": asked, "reference": " + ".join(writers) or "none"}
    write_json(out / "facts.json", facts)


def screen_drafts(
    task: Task,
    rows: Rows,
    written: Written,
    folder: RunFolder,
    make_generator: Callable[[], Generator],
    *,
    forget: Sequence[str],
) -> list[Draft]:
    """Return the drafts with what is wrong with them before any model is trained; see `quality.filter`."""
    floor = task.config.filter.likelihood
    key = {"drafts": folder.hash_of("drafts"), "longest": LONGEST_DRAFT, "forget": sorted(forget), "likelihood": floor}

    def make(out: Path) -> None:
        drafts = screen(written.drafts, rows.examples, longest=LONGEST_DRAFT, forget=forget)
        if floor is not None:
            prompts = {label: class_prompt(label, text, (), language=rows.language) for label, text in task.descriptions.items()}
            scorer = LikelihoodRatioScorer(make_generator(), prompts, generic_prompt(language=rows.language))
            drafts = drop_unlikely(drafts, scorer.score(kept(drafts)), floor=floor)
        write_jsonl(out / "drafts.jsonl", [draft.to_json() for draft in drafts])

    done = folder.step("screen", key, make)
    return [Draft.from_json(record) for record in read_jsonl(done / "drafts.jsonl")]
