"""Draft writers: each is a generator with the rows that its prompts may show, and writes a share of the drafts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from refsynth.core.drafting import SynthesisConfig
from refsynth.core.hashes import derive_seed
from refsynth.core.protocols import Generator
from refsynth.core.types import Example, IntArray
from refsynth.synthesis.plan import Brief, Focus, Request, plan_requests, quotas
from refsynth.synthesis.sample import Synthesis, for_generator, synthesize


@dataclass(frozen=True)
class DraftWriter:
    """Writes a share of the drafts.

    Attributes:
        name: names its journal; empty for the plain reference.
        key: the hash of what decides how it writes, beyond the configuration.
        make: makes the generator, when it is needed.
        settings: how the generator is prompted.
        rows: the examples that its prompts may show [N].
        folds: of these rows [N].
        rewarded: whether it was trained to lower the loss of these rows.
    """

    name: str
    key: str
    make: Callable[[], Generator]
    settings: SynthesisConfig
    rows: Sequence[Example]
    folds: IntArray
    rewarded: bool = False

    def requests(self, drafts: int, descriptions: Mapping[str, str], language: str, *, seed: int, focus: Focus) -> list[Request]:
        """Return the requests for its share of the drafts."""
        settings = self.settings
        brief = Brief(
            drafts,
            settings.shots,
            settings.per_prompt,
            settings.ways,
            language=language,
            seed=self._seed(seed),
            focus=focus,
        )
        return plan_requests(self.rows, self.folds, descriptions, brief)

    def write(
        self,
        requests: Sequence[Request],
        generator: Generator,
        folder: Path,
        *,
        language: str,
        seed: int,
        progress: Callable[[int], None],
    ) -> Synthesis:
        """Return its drafts. Earlier answers come from its journal in the folder."""
        return synthesize(
            requests,
            generator,
            decoding=self.settings.model_dump(include={"temperature", "top_p", "max_tokens"}),
            journal=folder / (f"journal-{self.name}.jsonl" if self.name else "journal.jsonl"),
            texts={example.id: example.text for example in self.rows},
            language=language,
            seed=self._seed(seed),
            rewarded_by=tuple(row.id for row in self.rows) if self.rewarded else (),
            progress=progress,
        )

    def _seed(self, seed: int) -> int:
        """Return a seed of its own, so that two writers with the same prompts do not write the same drafts."""
        return derive_seed(seed, "author", self.name) if self.name else seed


class Composed(NamedTuple):
    """What all writers wrote together, as in `Synthesis`, with their requests and the names of their generators."""

    requests: Sequence[Request]
    drafts: Sequence[Example]
    rejected: Mapping[str, int]
    stopped: bool
    generators: Sequence[str]


def compose(
    writers: Sequence[DraftWriter],
    drafts: int,
    descriptions: Mapping[str, str],
    folder: Path,
    *,
    language: str,
    seed: int,
    focus: Focus,
    progress: Callable[[int], None],
) -> Composed:
    """Let each writer write an equal share of the drafts, and return all that they wrote."""
    requests: list[Request] = []
    examples: list[Example] = []
    rejected: Counter[str] = Counter()
    generators: list[str] = []
    stopped = False
    for writer, share in zip(writers, quotas(drafts, [1.0] * len(writers)), strict=True):
        planned = writer.requests(share, descriptions, language, seed=seed, focus=focus)
        if not planned:  # a reference that is not needed need not be installed
            continue
        generator, before = writer.make(), sum(request.n for request in requests)
        planned = for_generator(planned, generator)

        def report(done: int, before: int = before) -> None:
            progress(before + done)

        written = writer.write(planned, generator, folder, language=language, seed=seed, progress=report)
        requests += planned
        examples += written.drafts
        rejected.update(written.rejected)
        stopped |= written.stopped
        generators.append(generator.name)
    return Composed(requests, examples, rejected, stopped, generators)
