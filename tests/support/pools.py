"""A task with a pool of texts without labels."""

import json

from tests.support.runs import make_task

THINGS, NUMBERS, STATES = ("parcel", "courier", "lamp"), ("one", "two", "six"), ("late", "broken", "here")


def pool_task(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    texts = [
        f"{thing} of {word} {number}{word}" for thing in THINGS for number in range(9) for word in ("red", "old", "tin", "big")
    ]
    (folder / "pool.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    names = {"train": "train.jsonl", "test": "test.jsonl", "pool": "pool.jsonl"}
    tree = {"data": {name: str(folder / file) for name, file in names.items()}, "selftrain": {"per_class": 0}}
    return make_task(folder, **(tree | changes))
