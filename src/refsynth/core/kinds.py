"""Kinds of tasks by name: what labels belong to, and the defaults of the kind. Validation and documents derive from it.

What answers of a kind mean, and how they are counted, is in `refsynth.kinds`. A spec names it, and its first use imports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from refsynth.core.registry import Registry

KindName = str
"""The name of a kind of task in `TASK_KINDS`. Another package may have added the kind."""

LabelsOf = Literal["one", "several", "words"]
"""What labels belong to: one label to a text, any number of labels to a text, or labels to words in it."""


@dataclass(frozen=True)
class KindSpec:
    """A kind of task.

    Attributes:
        name: in task.yaml.
        answers: the `kinds.Kind` that says what answers mean, as `module:name`.
        labels: what they belong to.
        learners: what the gate chooses among by default.
        doc: what a row has, for people.
        title: of a model card, with `{k}` for the number of labels.
        gives: what a model returns for a text.
        pair: whether a row is two texts.
    """

    name: KindName
    answers: str
    labels: LabelsOf
    learners: tuple[str, ...]
    doc: str
    title: str
    gives: str = "label, calibrated probabilities"
    pair: bool = False

    @property
    def several(self) -> bool:
        """Whether a text may have any number of labels."""
        return self.labels == "several"

    @property
    def words(self) -> bool:
        """Whether labels are of words."""
        return self.labels == "words"

    @property
    def example(self) -> str:
        """An example of an input, as Python code."""
        return 'refsynth.join_pair("a text", "another")' if self.pair else '"a text"'


TASK_KINDS: Registry[KindSpec] = Registry(
    "refsynth.kinds",
    KindSpec,
    (
        KindSpec(
            "classify",
            "refsynth.kinds.labels:ONE_LABEL",
            "one",
            ("tfidf", "frozen", "contrastive"),
            "one label for each text",
            "Classifier of texts with {k} labels",
        ),
        KindSpec(
            "pairs",
            "refsynth.kinds.labels:ONE_LABEL",
            "one",
            ("tfidf", "finetune"),  # an encoder that is not tuned knows nothing about how two texts relate
            "one label for each pair of texts",
            "Classifier of pairs of texts with {k} labels",
            pair=True,
        ),
        KindSpec(
            "multilabel",
            "refsynth.kinds.labels:ANY_LABELS",
            "several",
            ("tfidf", "frozen", "finetune"),
            "any number of labels for each text",
            "Classifier of texts with {k} labels, any number of them for each text",
            "labels, calibrated probabilities",
        ),
        KindSpec(
            "tokens",
            "refsynth.kinds.spans:SPANS",
            "words",
            ("crf", "finetune"),
            "labels of words in each text",
            "Finder of entities in texts, with {k} labels",
            "entities with start, end, label and calibrated confidence",
        ),
    ),
)
