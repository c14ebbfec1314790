"""Eight rows of two labels, and every learner on them."""

from functools import partial

from refsynth.core.types import Example
from refsynth.learning.baseline import FrozenLearner, TfidfLearner
from refsynth.learning.tuning.contrastive import ContrastiveLearner
from refsynth.learning.tuning.finetune import FinetuneLearner
from refsynth.learning.tuning.methods import METHODS
from refsynth.learning.tuning.trainer import TrainingRecipe

LABELS = ("late", "broken", "other")


TEXTS = {
    "late": ["where is my order", "my order is late", "no sign of my order yet", "is my order on its way"],
    "broken": ["the lamp is broken", "a broken mug came", "it arrived in pieces", "the shade has a crack"],
}


TRAIN = [Example(f"row-{i}-{label}", text, label) for label, texts in TEXTS.items() for i, text in enumerate(texts)]


def tuned(method, encoder):
    return FinetuneLearner(
        LABELS, encoder, method=method, recipe=TrainingRecipe(epochs=5, batch_size=4, learning_rate=METHODS[method].rate)
    )


MAKERS = {
    "tfidf": lambda encoder: TfidfLearner(LABELS, language="en"),
    "tfidf zh": lambda encoder: TfidfLearner(LABELS, language="zh"),
    "frozen": lambda encoder: FrozenLearner(LABELS, encoder),
    "contrastive": lambda encoder: ContrastiveLearner(
        LABELS, encoder, {"late": "it is late", "broken": "it is broken", "other": "else"}, steps=4
    ),
    **{method: partial(tuned, method) for method in METHODS},
}
