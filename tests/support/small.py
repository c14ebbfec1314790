"""Tasks of sets and of words, with a pool."""

import json

from tests.support.sets import LABELS as SETS
from tests.support.sets import rows_
from tests.support.tagged import example, texts
from tests.support.tagged import tree as words_tree

POOL = 300


def lines(task, n, seed):
    return list(rows_(n, seed)) if task == "multilabel" else [{"text": text} for text in texts(n, seed)]


def plain(task, n, seed):
    """Texts without their labels."""
    if task == "multilabel":
        return [row["text"] for row in rows_(n, seed)]
    return [example(i, text).text for i, text in enumerate(texts(n, seed))]


def config_of(task, folder, **changes):
    for name, n, seed in (("train", 40, 0), ("test", 24, 1)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines(task, n, seed)), "utf-8")
    pool = [{"text": text} for text in plain(task, POOL, 2)]
    (folder / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pool), "utf-8")
    settings = {
        "language": "en",
        "data": {name: str(folder / f"{name}.jsonl") for name in ("train", "test", "pool")},
        "reference": "echo",
        "synthesis": {"drafts": 0},
        "selftrain": {"per_class": 0},
        "gate": {"folds": 2},
    }
    if task == "multilabel":
        return settings | {"task": task, "labels": SETS, "learners": ["tfidf", "frozen"]} | changes
    fitted = {"learners": ["crf", "finetune"], "training": {"epochs": 10, "learning_rate": 3e-3}}
    return words_tree(**(settings | fitted | changes))
