"""Finds the topics of the unlabeled texts of each label, as words that prompts can ask for.

A text of the pool belongs to the label whose description it is nearest to. No labeled row is used, so topics reveal nothing about
held-out rows. The topics of a label are the clusters of its texts, each named by its most distinctive words (c-TF-IDF;
Grootendorst, 2022, "BERTopic: Neural topic modeling with a class-based TF-IDF procedure", section 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from refsynth.core.extras import require
from refsynth.core.files import read_json, write_json
from refsynth.core.hashes import digest
from refsynth.core.protocols import Encoder
from refsynth.core.run import RunFolder
from refsynth.core.settings import settings_of
from refsynth.core.steps import STEPS
from refsynth.core.task import Task
from refsynth.core.types import FloatArray, IntArray
from refsynth.core.words import UNSPACED_LANGUAGES
from refsynth.learning.context import LearnerContext
from refsynth.learning.pool import Pool

MOST = 8
"""Most topics of a label."""
LEAST_TEXTS = 5
"""Smallest mean number of texts per topic."""
WORDS = 3
"""Words in the name of a topic."""
WORD = r"(?u)\b[^\W\d_]{3,}\b"


def topics_of(task: Task, pool: Pool, language: str, context: LearnerContext, folder: RunFolder) -> dict[str, tuple[str, ...]]:
    """Return the topics of each label that has any, computed once per run."""
    texts = [row.text for row in pool.texts]

    def make(out: Path) -> None:
        write_json(
            out / "topics.json", find_topics(texts, task.meanings, context.encoder, language=language, seed=task.config.seed)
        )

    extra = {"texts": digest(texts), "encoder": context.encoder_hash, "language": language}
    by_label = read_json(folder.step(STEPS["topics"], make, config=settings_of(task.config), extra=extra) / "topics.json")
    return {label: tuple(topics) for label, topics in by_label.items()}


def find_topics(
    texts: Sequence[str], meanings: Mapping[str, str], encoder: Encoder, *, language: str, seed: int
) -> dict[str, tuple[str, ...]]:
    """Return up to `MOST` topics for each label with enough near texts. A topic is a string of words separated by commas.

    Args:
        texts: the N texts of the pool.
        meanings: the description of each of K labels.
        encoder: embeds texts and descriptions.
        language: of the texts. In languages without spaces between words, pairs of characters take the place of words.
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
    """Return the words of each topic; an empty string if its texts have no word."""
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
    except ValueError:  # none of the texts has a word
        return [""] * len(joined)
    terms = vectors.get_feature_names_out()
    between = "、" if language in ("zh", "ja") else ", "
    named = []
    for row in weights:
        words = [terms[place] for place in np.argsort(-row, kind="stable") if row[place] > 0 and terms[place].isalpha()]
        named.append(between.join(words[:WORDS]))
    return named
