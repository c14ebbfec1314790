"""What the unlabelled texts of a label are about: sub-topics, as words, that prompts may ask for.

A text of the pool counts for the label whose description it is nearest to: no labelled row is asked, so topics tell nothing of
held-out rows. Its clusters are the topics, each named by the words that set it off from all others (c-TF-IDF; Grootendorst, 2022,
"BERTopic: Neural topic modeling with a class-based TF-IDF procedure", section 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from refsynth.core.extras import require
from refsynth.core.protocols import Encoder
from refsynth.core.run import RunFolder, digest, read_json, write_json
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.task import Task
from refsynth.core.types import FloatArray, IntArray
from refsynth.core.words import UNSPACED_LANGUAGES
from refsynth.learning.context import LearnerContext
from refsynth.learning.pool import Pool

MOST = 8
"""Topics of a label."""
LEAST_TEXTS = 5
"""Of a topic, on average."""
WORDS = 3
"""That name a topic."""
WORD = r"(?u)\b[^\W\d_]{3,}\b"


def topics_of(task: Task, pool: Pool, language: str, context: LearnerContext, folder: RunFolder) -> dict[str, tuple[str, ...]]:
    """Return the topics of each label that has some, found once a run."""
    texts = [row.text for row in pool.texts]

    def make(out: Path) -> None:
        write_json(
            out / "topics.json", find_topics(texts, task.meanings, context.encoder, language=language, seed=task.config.seed)
        )

    extra = {"texts": digest(texts), "encoder": context.encoder_hash, "language": language}
    found = read_json(folder.step(STEPS["topics"], make, config=settings_of(task.config), extra=extra) / "topics.json")
    return {label: tuple(topics) for label, topics in found.items()}


def find_topics(
    texts: Sequence[str], meanings: Mapping[str, str], encoder: Encoder, *, language: str, seed: int
) -> dict[str, tuple[str, ...]]:
    """Return up to `MOST` topics for each label that enough texts are near to, each as words with commas between.

    Args:
        texts: of the pool, N.
        meanings: each of K labels with what it means.
        encoder: for texts and meanings.
        language: of the texts; where words are not spaced, pairs of characters stand for them.
        seed: of the clustering.
    """
    if len(texts) < 2 * LEAST_TEXTS:
        return {}
    x = np.asarray(encoder.encode(texts), float)
    nearest = (x @ np.asarray(encoder.encode(list(meanings.values())), float).T).argmax(1)
    topic_of = np.full(len(texts), -1)
    spans: dict[str, range] = {}
    for index, label in enumerate(meanings):
        mine = np.flatnonzero(nearest == index)
        k = min(MOST, len(mine) // LEAST_TEXTS, len(np.unique(x[mine], axis=0)))
        if k > 1:
            first = int(topic_of.max()) + 1
            topic_of[mine] = first + _clusters(x[mine], k, seed)
            spans[label] = range(first, first + k)
    names = _names(texts, topic_of, language) if spans else []
    return {label: tuple(filter(None, (names[topic] for topic in span))) for label, span in spans.items()}


def _clusters(x: FloatArray, k: int, seed: int) -> IntArray:
    means = require("sklearn.cluster", extra="train").KMeans(k, n_init=3, random_state=seed % 2**32)
    return np.asarray(means.fit_predict(x))


def _names(texts: Sequence[str], topic_of: IntArray, language: str) -> list[str]:
    """Return the words of each topic; none where its texts have no word."""
    joined = [""] * (int(topic_of.max()) + 1)
    for text, topic in zip(texts, topic_of, strict=True):
        if topic >= 0:
            joined[topic] += f" {text}"
    shape = {"analyzer": "char", "ngram_range": (2, 2)} if language in UNSPACED_LANGUAGES else {"token_pattern": WORD}
    stop = "english" if language == "en" else None
    features = require("sklearn.feature_extraction.text", extra="train")
    vectors = features.TfidfVectorizer(stop_words=stop, sublinear_tf=True, **shape)
    try:
        weights = vectors.fit_transform(joined).toarray()
    except ValueError:  # not one word in all of them
        return [""] * len(joined)
    terms = vectors.get_feature_names_out()
    between = "、" if language in ("zh", "ja") else ", "
    named = []
    for row in weights:
        words = [terms[place] for place in np.argsort(-row, kind="stable") if row[place] > 0 and terms[place].isalpha()]
        named.append(between.join(words[:WORDS]))
    return named
