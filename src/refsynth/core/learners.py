"""Learners by name: what each is, what it can learn, and what a bundle holds of it. Everything else derives from this table.

Order is preference: from the learner that is best on most tasks to the one that is worst. It decides which model judges drafts
and which learner wins a draw. The causal reference makes a bundle many times as large and slow, so it has to win clearly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from refsynth.core.kinds import LabelsOf
from refsynth.core.registry import Registry

LearnerName = str
"""The name of a learner in `LEARNERS`. Another package may have added the learner."""

MethodName = Literal[
    "finetune", "head", "bitfit", "lora", "adalora", "ia3", "prefix_tuning", "p_tuning", "prompt_tuning", "houlsby"
]
"""Ways to fine-tune an encoder."""

Reads = Literal["encoder", "reference", "text"]


@dataclass(frozen=True)
class LearnerSpec:
    """A learner.

    Attributes:
        name: in task.yaml.
        title: in the report.
        make: the function that makes it, as `module:function`. It takes a `learning.context.LearnerContext`; if the learner
            `joins` others, also these by name. It is imported when it is first used.
        doc: what is fitted, for the documents.
        ships: what a bundle holds of it; empty if no bundle does, so that it is only compared.
        unfit: kinds of labels that it cannot learn, each with the reason and what to do.
        reads: what its features come from: an encoder, the weights of the reference, or the text itself.
        uses_drafts: whether drafts make a difference to it.
        tuned: whether it takes gradient steps, so that validation rows decide when it stops.
        searched: whether its hyper-parameters can be searched for.
        joins: whether it joins the other learners of the task.
        usual_shape: whether its result is an encoder of the usual shape, from which a student can start.
        small: whether what it fits is small and fast as it is, so that it is a variant beside those of another.
        always_shown: whether the report shows it whatever ships.
    """

    name: LearnerName
    title: str
    make: str
    doc: str
    ships: str = ""
    unfit: Mapping[LabelsOf, str] = field(default_factory=dict)
    reads: Reads = "encoder"
    uses_drafts: bool = True
    tuned: bool = False
    searched: bool = False
    joins: bool = False
    usual_shape: bool = False
    small: bool = False
    always_shown: bool = False

    @property
    def stops(self) -> bool:
        """Whether validation rows decide when it, or one of the learners that it joins, stops."""
        return self.tuned or self.joins


_WHOLE: Mapping[LabelsOf, str] = {"words": "labels whole texts, and here words are labeled; take crf or finetune"}
_ONE: Mapping[LabelsOf, str] = {
    **_WHOLE,
    "several": "learns one label against the others, and here a text has several; take soup, which ships as well",
}
_TEXTS: tuple[LabelsOf, ...] = ("one", "several")
_TUNED, _ITSELF = "the tuned encoder", "the encoder as it is"
_MAKERS = "refsynth.learning.makers"


def _method(name: MethodName, title: str, doc: str, ships: str, *, usual: bool = True, whole: bool = False) -> LearnerSpec:
    """Return the spec of a way to fine-tune an encoder; with `whole`, one that labels only whole texts."""
    return LearnerSpec(
        name, title, f"{_MAKERS}:{name}", doc, ships, _WHOLE if whole else {}, tuned=True, searched=True, usual_shape=usual
    )


LEARNERS: Registry[LearnerSpec] = Registry(
    "refsynth.learners",
    LearnerSpec,
    (
        LearnerSpec(
            "contrastive",
            "contrastive",
            f"{_MAKERS}:contrastive",
            "the encoder by a contrastive loss, then logistic regression",
            _TUNED,
            {**_WHOLE, "several": "pulls texts of one label together, and here a text has several; take frozen or finetune"},
            usual_shape=True,
        ),
        _method("finetune", "full fine-tuning", "all weights", _TUNED),
        LearnerSpec(
            "soup",
            "model soup",
            f"{_MAKERS}:soup",
            "all weights, `ensemble.seeds` times; their mean ships (Wortsman et al., 2022)",
            "the mean",
            _WHOLE,
            tuned=True,
            usual_shape=True,
        ),
        LearnerSpec(
            "distilled",
            "student of all learners",
            f"{_MAKERS}:distilled",
            "all weights, towards what the other learners say together (Hinton et al., 2015)",
            _TUNED,
            _ONE,
            joins=True,
        ),
        _method("lora", "LoRA", "low-rank changes of the query and value projections (Hu et al., 2022)", "merged"),
        _method("adalora", "AdaLoRA", "the same with ranks that go where they are of use (Zhang et al., 2023)", "merged"),
        _method("houlsby", "bottleneck adapters", "bottleneck adapters and layer norms (Houlsby et al., 2019)",
                "the encoder and the adapters", usual=False),
        _method("bitfit", "BitFit", "bias vectors (Ben Zaken et al., 2022)", _TUNED),
        _method("ia3", "IA3", "scales of keys, values and feed-forward activations (Liu et al., 2022)", "merged"),
        _method("prefix_tuning", "prefix tuning", "keys and values before each text, in each layer (Li and Liang, 2021)",
                "the encoder and the prefix", usual=False),
        _method("p_tuning", "P-tuning", "vectors before each text, through a small network (Liu et al., 2021)",
                "the encoder and the vectors", usual=False),
        _method("prompt_tuning", "prompt tuning", "vectors before each text (Lester et al., 2021)",
                "the encoder and the vectors", usual=False),
        LearnerSpec(
            "causal_lora",
            "reference + LoRA",
            f"{_MAKERS}:causal_lora",
            "LoRA on the reference itself, read at the last token",
            "merged into the reference",
            _WHOLE,
            "reference",
            tuned=True,
        ),
        LearnerSpec(
            "frozen",
            "frozen encoder + LR",
            f"{_MAKERS}:frozen",
            "logistic regression on the encoder's embeddings",
            _ITSELF,
            _WHOLE,
            usual_shape=True,
            always_shown=True,
        ),
        _method("head", "frozen encoder + head", "the head alone, by gradient steps", _ITSELF, whole=True),
        LearnerSpec(
            "crf",
            "CRF",
            f"{_MAKERS}:crf",
            "a linear-chain CRF on the form of words, for `task: tokens`",
            "the CRF",
            dict.fromkeys(_TEXTS, "tags words; write task: tokens, or take it out"),
            "text",
            small=True,
            always_shown=True,
        ),
        LearnerSpec(
            "tfidf",
            "TF-IDF + LR",
            f"{_MAKERS}:tfidf",
            "logistic regression on TF-IDF of words and pairs of words; of characters where words are not spaced, or no row has "
            "one of two letters",
            "TF-IDF",
            _WHOLE,
            "text",
            small=True,
            always_shown=True,
        ),
        LearnerSpec(
            "average",
            "average of all learners",
            f"{_MAKERS}:average",
            "nothing: the mean of the other learners' probabilities",
            unfit=_WHOLE,
            joins=True,
            always_shown=True,
        ),
        LearnerSpec(
            "stacking",
            "stack of all learners",
            f"{_MAKERS}:stacking",
            "one weight for each of the other learners",
            unfit=_WHOLE,
            joins=True,
            always_shown=True,
        ),
        LearnerSpec(
            "prompt",
            "reference, prompted",
            f"{_MAKERS}:prompt",
            "nothing: the reference is asked (docs/how-to/prompting.md)",
            unfit={**_WHOLE, "several": "asks which one label fits, and here a text has several; take it out"},
            reads="text",
            uses_drafts=False,
            always_shown=True,
        ),
    ),
)  # fmt: skip
