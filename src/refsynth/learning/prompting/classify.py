"""Zero- and few-shot classification by the reference: the probability of a label after a text, or of a text after a label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from refsynth.core.protocols import Generator
from refsynth.core.types import FloatArray, Prompt
from refsynth.data.quote import neutralize, shorten
from refsynth.learning.prompting.examples import Pair, Shown
from refsynth.learning.prompting.templates import Method, Template

SHARPNESS = 10.0
"""The factor from scores, log P per token, to logits: a text has tens of dependent tokens. A temperature is fitted later."""


@dataclass(frozen=True)
class Asking:
    """How the reference is prompted.

    Attributes:
        method: what is scored.
        template: the form of a text with a label.
        verbalizers: the words for each of K labels.
        instruction: a line above everything; empty for none.
    """

    method: Method
    template: Template
    verbalizers: tuple[str, ...]
    instruction: str = ""

    def head(self, examples: Sequence[Pair]) -> str:
        """Return the part of the prompt above the text: the instruction, and examples with their labels."""
        parts = [self.instruction] if self.instruction else []
        parts += [self.template.example(self.method, _quoted(text), self.verbalizers[k]) for text, k in examples]
        return "".join(part + "\n\n" for part in parts)


def score_labels(generator: Generator, asking: Asking, texts: Sequence[str], shown: Shown) -> FloatArray:
    """Return mean log P per token of each label after each text, or of each text after each label: [N, K], in nats."""
    form = asking.template.form(asking.method)
    prompts: list[Prompt] = []
    scored: list[str] = []
    for text, examples in zip(map(_quoted, texts), shown.before(texts), strict=True):
        head = asking.head(examples)
        for words in asking.verbalizers:
            condition, target = (text, words) if asking.method == "direct" else (words, text)
            prompts.append(Prompt(head + form.ask(condition), ""))
            scored.append(target)
    flat: FloatArray = np.asarray(generator.score(prompts, scored), float).reshape(len(texts), len(asking.verbalizers))
    return np.nan_to_num(flat, nan=0.0)  # a text without tokens is evidence for no label


def _quoted(text: str) -> str:
    return shorten(neutralize(text)) or "-"


@dataclass(frozen=True)
class PromptPredictor:
    """A predictor that prompts the reference. `bias` [K] is fixed, so a prediction does not depend on the other texts."""

    labels: tuple[str, ...]
    generator: Generator
    asking: Asking
    shown: Shown
    bias: FloatArray

    def to_json(self) -> dict[str, Any]:
        """Return the fitted values for JSON; the examples are chosen again from the rows."""
        asking = self.asking
        words = {"verbalizers": asking.verbalizers, "instruction": asking.instruction, "bias": self.bias.tolist()}
        return {"method": asking.method, "template": asking.template.model_dump(), **words}

    def logits(self, texts: Sequence[str]) -> FloatArray:
        """Return calibrated scores times `SHARPNESS` [N, K]."""
        if not texts:
            return np.zeros((0, len(self.labels)))
        scores: FloatArray = SHARPNESS * (score_labels(self.generator, self.asking, texts, self.shown) - self.bias)
        return scores
