"""A ledger of answers: one line per batch, under a key of everything that decides its content. No paid answer is lost.

A line is written whole and flushed before the next batch starts. If a killed process left a torn last line, opening the ledger
cuts it off. A batch that an endpoint answered only in part is stored as partial.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from refsynth.core.files import write_atomic
from refsynth.core.hashes import canonical
from refsynth.core.types import Completion

Answers = dict[int, list[Completion]]


class Ledger:
    """The answers in one file by batch key: those of whole batches and those of partial ones."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._whole: dict[str, Answers] = {}
        self._partial: dict[str, Answers] = {}
        if path.exists():
            self._read()

    def answers(self, key: str) -> list[list[Completion]] | None:
        """Return the completions of a whole batch, prompt by prompt, or None."""
        answers = self._whole.get(key)
        return None if answers is None else [answers[place] for place in sorted(answers)]

    def partial(self, key: str) -> Answers:
        """Return the completions of a partial batch, by the prompt's place in the batch."""
        return dict(self._partial.get(key, {}))

    def enter(self, key: str, answers: Answers, *, whole: bool) -> None:
        """Write the answers of a batch to disk."""
        (self._whole if whole else self._partial)[key] = answers
        with self._path.open("ab") as stream:
            stream.write(_line(key, answers, whole=whole))
            stream.flush()
            os.fsync(stream.fileno())

    def keep(self, keys: Iterable[str]) -> None:
        """Rewrite the file so that it holds only these whole batches, in this order."""
        write_atomic(self._path, b"".join(_line(key, self._whole[key], whole=True) for key in keys))

    def _read(self) -> None:
        good = 0
        with self._path.open("rb") as stream:
            for line in stream:
                record = _parse(line)
                if record is None:
                    break
                answers = {int(place): [Completion(*pair) for pair in row] for place, row in record["answers"].items()}
                (self._whole if record["whole"] else self._partial)[record["key"]] = answers
                good += len(line)
        os.truncate(self._path, good)


def _parse(line: bytes) -> Mapping[str, Any] | None:
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"key", "answers", "whole"} <= record.keys() else None


def _line(key: str, answers: Answers, *, whole: bool) -> bytes:
    return canonical({"key": key, "whole": whole, "answers": {str(place): answers[place] for place in sorted(answers)}}) + b"\n"
