"""A process that loads a model, answers a text, then many: `python child.py KIND FOLDER COUNT TEXTS`.

Says {"first": true, "rss": B} after the first answer and {"rss": B, "texts": N} after all of them, one line each. KIND is
`bundle`, or `torch` for a Hugging Face folder that transformers runs. Not for people.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

BATCH = 64


def main(kind: str, folder: Path, count: int, source: Path) -> None:
    """Load, answer, and say how much memory is resident."""
    texts = json.loads(source.read_text("utf-8"))
    answer = (_torch if kind == "torch" else _bundle)(folder)
    answer(texts[:1])
    _say({"first": True, "rss": _resident()})
    for start in range(0, count, BATCH):
        # A number at the end makes every text new, and lengths differ from batch to batch.
        answer([f"{texts[place % len(texts)]} {place}" for place in range(start, min(count, start + BATCH))])
    _say({"rss": _resident(), "texts": count})


def _bundle(folder: Path) -> Callable[[Sequence[str]], Any]:
    from refsynth.bundle.model import load

    return load(folder, threads=2).predict


def _torch(folder: Path) -> Callable[[Sequence[str]], Any]:
    from refsynth.models.network import TransformerEncoder

    return TransformerEncoder(folder).encode


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text("ascii").split()[1]
    return int(pages) * 4096


def _say(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
