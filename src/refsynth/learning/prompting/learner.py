"""The learner `prompt`: it fits only the prompt, the examples in it, and the reference's bias for labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from refsynth.core.protocols import Encoder, Generator
from refsynth.core.types import Example, FloatArray, IntArray
from refsynth.learning.prompting.calibrate import Calibration, calibration_texts, taste
from refsynth.learning.prompting.classify import Asking, PromptPredictor, score_labels
from refsynth.learning.prompting.examples import NearestShown, NothingShown, SameShown, Shown, class_by_class
from refsynth.learning.prompting.search import SearchRows, propose_instructions, propose_verbalizers, search
from refsynth.learning.prompting.templates import Method, Template

Choice = Literal["same", "nearest"]

SEARCH_ROWS = 48
"""The most real rows of a prompt search: each candidate prompt scores every label for each of them."""


@dataclass(frozen=True)
class PromptOptions:
    """How a prompt is made.

    Attributes:
        method: what is scored: labels after a text (`direct`), or the text after labels (`channel`).
        shots: number of examples.
        examples: the same examples for all texts, or the nearest to each.
        calibration: how the bias for labels is measured.
        proposals: how many alternatives for each part of the prompt the reference proposes to the search; 0 for no search.
    """

    method: Method = "channel"
    shots: int = 0
    examples: Choice = "same"
    calibration: Calibration = "batch"
    proposals: int = 0


class PromptLearner:
    """Classifies by prompts. The reference is loaded when it is first needed."""

    def __init__(
        self,
        descriptions: Mapping[str, str],
        make_generator: Callable[[], Generator],
        encoder: Encoder,
        *,
        options: PromptOptions,
        templates: Sequence[Template],
        language: str,
    ) -> None:
        """Take the parts of the prompt.

        Args:
            descriptions: the meaning of each of K labels, in words that stand for the label.
            make_generator: makes the reference.
            encoder: finds the nearest examples.
            options: how a prompt is made.
            templates: templates to try in a search; without one the first is used.
            language: ISO 639-1 code of the texts.
        """
        self._descriptions, self._make, self._encoder = descriptions, make_generator, encoder
        self._options, self._templates, self._language = options, templates, language
        self._made: Generator | None = None

    def fit(self, train: Sequence[Example], dev: Sequence[Example], *, seed: int) -> PromptPredictor:
        """Fit the prompt and the bias to `train`; `dev` has no effect."""
        labels = tuple(self._descriptions)
        texts, classes = self._rows(train)
        shown = self._shown(texts, classes, seed=seed)
        asking = Asking(self._options.method, self._templates[0], tuple(self._descriptions.values()))
        generator = self._generator()
        if self._options.proposals and texts:
            asking = self._searched(generator, asking, _some(texts, classes, seed=seed), shown, seed=seed)
        free = calibration_texts(self._options.calibration, texts, seed=seed)
        scores: FloatArray = score_labels(generator, asking, free, shown) if free else np.zeros((0, len(labels)))
        return PromptPredictor(labels, generator, asking, shown, taste(scores))

    def recalled(self, record: Mapping[str, Any], train: Sequence[Example], *, seed: int) -> PromptPredictor:
        """Return the predictor that `fit` returned for the same rows and seed, from its `to_json`."""
        labels = tuple(self._descriptions)
        asking = Asking(record["method"], Template(**record["template"]), tuple(record["verbalizers"]), record["instruction"])
        shown = self._shown(*self._rows(train), seed=seed)
        return PromptPredictor(labels, self._generator(), asking, shown, np.array(record["bias"], float))

    def _rows(self, train: Sequence[Example]) -> tuple[list[str], IntArray]:
        place = {label: number for number, label in enumerate(self._descriptions)}
        return [example.text for example in train], np.array([place[example.label] for example in train], int)

    def _generator(self) -> Generator:
        if self._made is None:
            self._made = self._make()
        return self._made

    def _shown(self, texts: Sequence[str], classes: IntArray, *, seed: int) -> Shown:
        shots = min(self._options.shots, len(texts))
        if not shots:
            return NothingShown()
        if self._options.examples == "nearest":
            return NearestShown(texts, classes, self._encoder, shots=shots)
        return SameShown(texts, classes, shots=shots, seed=seed)

    def _searched(self, generator: Generator, asking: Asking, rows: SearchRows, shown: Shown, *, seed: int) -> Asking:
        n, language = self._options.proposals, self._language
        words = propose_verbalizers(generator, rows, len(asking.verbalizers), n=n, language=language, seed=seed)
        lines = propose_instructions(generator, rows, asking.verbalizers, n=n, language=language, seed=seed)
        return search(generator, asking, rows, shown, templates=self._templates, instructions=lines, verbalizers=words)


def _some(texts: Sequence[str], classes: IntArray, *, seed: int) -> SearchRows:
    """Return at most `SEARCH_ROWS` rows, balanced over the classes as far as possible."""
    places = np.sort(class_by_class(classes, seed=seed)[:SEARCH_ROWS])
    return SearchRows([texts[place] for place in places], classes[places])
