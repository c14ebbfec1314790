"""The task of training a policy on half of the folds: their rows reward its texts and appear in its prompts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from refsynth.core.drafting import SynthesisConfig
from refsynth.core.hashes import derive_seed
from refsynth.core.observe import Observer
from refsynth.core.run import RunFolder
from refsynth.core.task import Task
from refsynth.core.types import Example, IntArray, Prompt
from refsynth.learning.context import LearnerContext
from refsynth.learning.rows import Rows
from refsynth.synthesis.build import ReferenceSource
from refsynth.synthesis.plan import Brief, Focus, plan_requests
from refsynth.synthesis.reinforcement.rewarder import Rewarder


class Half(NamedTuple):
    """The rows of half of the folds, with their folds [N]."""

    name: str
    rows: Sequence[Example]
    folds: IntArray

    @property
    def can_reward(self) -> bool:
        """Whether heads fitted to the other folds can measure each fold: they need rows of two labels."""
        folds = np.unique(self.folds)
        labels = np.array([row.label for row in self.rows])
        return len(folds) > 1 and all(len(set(labels[self.folds != fold])) > 1 for fold in folds)


def halves(rows: Rows) -> list[Half]:
    """Return the rows of the even folds and those of the odd ones: rows of a small label lie in consecutive folds."""
    numbers = np.unique(rows.folds)
    parts = []
    for name, chosen in zip(("first", "second"), (numbers[::2], numbers[1::2]), strict=True):
        mine = np.flatnonzero(np.isin(rows.folds, chosen))
        parts.append(Half(name, [rows.examples[index] for index in mine], rows.folds[mine]))
    return parts


class PolicyTask(NamedTuple):
    """Everything that training a policy needs.

    Attributes:
        task: of the run.
        half: the rows that reward the texts and appear in prompts.
        context: labels, language and encoder.
        source: of the reference.
        folder: of the run.
        watch: receives progress.
        longest: most words of a text.
        control: train the control that a policy has to beat: an adapter on shuffled rewards, or random arms of the bandit.
        topics: of each label, if prompts use topics.
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
    def rewarder(self) -> Rewarder:
        """The rewarder by the rows of the half."""
        return Rewarder(
            self.context.labels, self.context.encoder, self.half.rows, self.half.folds, self.context.language, self.longest
        )

    @property
    def seed(self) -> int:
        """The seed of the half."""
        return derive_seed(self.task.config.seed, "policy", self.half.name)

    def prompts(self, settings: SynthesisConfig, turn: int, places: Iterable[int]) -> list[Prompt]:
        """Return the prompts of a turn at these places; place p asks for label p modulo K."""
        places = list(places)
        k, group_size = len(self.task.labels), self.task.config.reinforce.group_size
        laps = max(places) // k + 1
        brief = Brief(
            laps * k * group_size,
            settings.shots,
            group_size,
            settings.ways,
            language=self.context.language,
            seed=derive_seed(self.seed, "prompts", turn),
            focus=Focus(topics=self.topics),
            before=turn * laps,
        )
        planned = plan_requests(self.half.rows, self.half.folds, self.task.meanings, brief)
        return [planned[place].prompt for place in places]

    def places(self, turn: int) -> range:
        """Return the places of a turn's prompts, so that labels alternate over all turns."""
        count = self.task.config.reinforce.prompts
        first = turn * count % len(self.task.labels)
        return range(first, first + count)
