"""Authors: who write the drafts, which rows each may show, and what each has learnt from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from refsynth.core.drafting import SynthesisConfig
from refsynth.core.protocols import Generator
from refsynth.core.run import derive_seed
from refsynth.core.types import Example, IntArray
from refsynth.synthesis.plan import Brief, Focus, Request, plan_requests, quotas
from refsynth.synthesis.sample import Synthesis, as_read, synthesize


@dataclass(frozen=True)
class DraftWriter:
    """Who writes a share of the drafts.

    Attributes:
        name: of its journal; empty for the reference as it comes.
        key: what decides how it writes, beyond the configuration, for the cache.
        make: makes the generator, when it is needed.
        settings: how it is asked.
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
        """Return the plan for its share of the drafts."""
        ask = self.settings
        brief = Brief(
            drafts,
            ask.shots,
            ask.per_prompt,
            ask.ways,
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
        """Return what it writes; what it was asked before is in its journal in the folder."""
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
        """Return a seed of its own: two authors that are asked the same must not write the same."""
        return derive_seed(seed, "author", self.name) if self.name else seed


class Composed(NamedTuple):
    """What all authors wrote, as in `Synthesis`, with what they were asked and the names of their generators."""

    requests: Sequence[Request]
    drafts: Sequence[Example]
    rejected: Mapping[str, int]
    stopped: bool
    writers: Sequence[str]


def compose(
    authors: Sequence[DraftWriter],
    drafts: int,
    descriptions: Mapping[str, str],
    folder: Path,
    *,
    language: str,
    seed: int,
    focus: Focus,
    progress: Callable[[int], None],
) -> Composed:
    """Have the authors write equal shares of so many drafts."""
    requests: list[Request] = []
    examples: list[Example] = []
    rejected: Counter[str] = Counter()
    writers: list[str] = []
    stopped = False
    for author, share in zip(authors, quotas(drafts, [1.0] * len(authors)), strict=True):
        asked = author.requests(share, descriptions, language, seed=seed, focus=focus)
        if not asked:  # a reference that is not asked need not be there
            continue
        generator, before = author.make(), sum(request.n for request in requests)
        asked = as_read(asked, generator)

        def tell(done: int, before: int = before) -> None:
            progress(before + done)

        written = author.write(asked, generator, folder, language=language, seed=seed, progress=tell)
        requests += asked
        examples += written.drafts
        rejected.update(written.rejected)
        stopped |= written.stopped
        writers.append(generator.name)
    return Composed(requests, examples, rejected, stopped, writers)
