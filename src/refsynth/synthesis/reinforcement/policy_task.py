"""What a policy is taught with: half of the folds, the rows of which judge its texts and are shown in its prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from refsynth.core.drafting import SynthesisConfig
from refsynth.core.observe import Observer
from refsynth.core.run import RunFolder, derive_seed
from refsynth.core.task import Task
from refsynth.core.types import Example, IntArray, Prompt
from refsynth.learning.context import LearnerContext
from refsynth.learning.rows import Rows
from refsynth.synthesis.build import ReferenceSource
from refsynth.synthesis.plan import Brief, Focus, plan_requests
from refsynth.synthesis.reinforcement.judge import RowJudge


class Half(NamedTuple):
    """The rows of half of the folds, with their folds [N]."""

    name: str
    rows: Sequence[Example]
    folds: IntArray

    @property
    def judges(self) -> bool:
        """Whether every fold can be judged by heads of the others, which need two labels."""
        folds = np.unique(self.folds)
        labels = np.array([row.label for row in self.rows])
        return len(folds) > 1 and all(len(set(labels[self.folds != fold])) > 1 for fold in folds)


def halves(rows: Rows) -> list[Half]:
    """Return the rows of every other fold, and those of the others: labels of few rows have these in neighbouring folds."""
    numbers = np.unique(rows.folds)
    parts = []
    for name, chosen in zip(("first", "second"), (numbers[::2], numbers[1::2]), strict=True):
        mine = np.flatnonzero(np.isin(rows.folds, chosen))
        parts.append(Half(name, [rows.examples[index] for index in mine], rows.folds[mine]))
    return parts


class PolicyTask(NamedTuple):
    """What a policy is taught with: the task, the rows that judge it, and where things are.

    With `control` the adapter's rewards are dealt out anew among the texts of a turn, and the bandit's arms drawn at random: what
    learning has to beat. `topics` are those of each label, where prompts ask by topics.
    """

    task: Task
    half: Half
    context: LearnerContext
    source: ReferenceSource
    folder: RunFolder
    watch: Observer
    longest: int
    control: bool = False
    topics: Mapping[str, Sequence[str]] = MappingProxyType({})

    @property
    def judge(self) -> RowJudge:
        """The half's rows as judges."""
        return RowJudge(
            self.context.labels, self.context.encoder, self.half.rows, self.half.folds, self.context.language, self.longest
        )

    @property
    def seed(self) -> int:
        """A seed of the half's own."""
        return derive_seed(self.task.config.seed, "policy", self.half.name)

    def prompts(self, settings: SynthesisConfig, turn: int, places: Iterable[int]) -> list[Prompt]:
        """Return prompts of a turn; place p asks for label p modulo K."""
        wanted = list(places)
        k, siblings = len(self.task.labels), self.task.config.reinforce.group_size
        laps = max(wanted) // k + 1
        seed = derive_seed(self.seed, "prompts", turn)
        brief = Brief(
            laps * k * siblings,
            settings.shots,
            siblings,
            settings.ways,
            language=self.context.language,
            seed=seed,
            focus=Focus(topics=self.topics),
            before=turn * laps,
        )
        planned = plan_requests(self.half.rows, self.half.folds, self.task.meanings, brief)
        return [planned[place].prompt for place in wanted]

    def places(self, turn: int) -> range:
        """Return the places of a turn's prompts: labels take turns."""
        count = self.task.config.reinforce.prompts
        first = turn * count % len(self.task.labels)
        return range(first, first + count)
