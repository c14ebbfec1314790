"""Data sets that no table of the README is about: constants are chosen on these. Rows to draw from and rows to measure on."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.sets import Sample
from refsynth.core.hashes import derive_seed

INTENTS = 20
"""Labels of clinc150 that are kept, drawn once."""

CLINC = "clinc20"


class Row(NamedTuple):
    """A text with its label; rows of one `group` are on one side."""

    text: str
    label: str
    group: str


class Outside(NamedTuple):
    """What each label means, rows to draw from, and rows to measure on."""

    meanings: Mapping[str, str]
    drawn_from: Sequence[Row]
    measured_on: Sequence[Row]

    def sample(self, *, shots: int, seed: int, rows: int) -> Sample:
        """Return `shots` rows of each label, drawn with the seed, and the same rows to measure on for every seed."""
        rng = np.random.default_rng(derive_seed(seed, "constants"))
        by_label = {label: [row for row in self.drawn_from if row.label == label] for label in self.meanings}
        drawn = [found[place] for found in by_label.values() for place in rng.permutation(len(found))[:shots]]
        order = np.random.default_rng(0).permutation(len(self.measured_on))[:rows]
        return Sample(_as_dicts(drawn), _as_dicts(self.measured_on[place] for place in order), self.meanings)


@cache
def read_outside(data: Path, name: str) -> Outside:
    """Return a set by its name, one of `READERS`; no text is on both sides, none is twice."""
    meanings, drawn_from, measured_on = READERS[name](data)
    known = {row.text for row in drawn_from}
    unseen = [row for row in measured_on if row.text not in known]
    return Outside(meanings, _distinct(drawn_from, meanings), _distinct(unseen, meanings))


def _distinct(rows: Iterable[Row], meanings: Mapping[str, str]) -> list[Row]:
    return list({row.text: row for row in rows if row.label in meanings}.values())


def _as_dicts(rows: Iterable[Row]) -> list[dict[str, str]]:
    return [{"text": row.text, "label": row.label} for row in rows]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _halves(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Divide groups at random, once."""
    groups = sorted({row.group for row in rows})
    first = {groups[place] for place in np.random.default_rng(0).permutation(len(groups))[: len(groups) // 2]}
    return [row for row in rows if row.group in first], [row for row in rows if row.group not in first]


def _clinc(data: Path) -> Outside:
    meanings: dict[str, str] = json.loads((data / "clinc150" / "labels.json").read_text("utf-8"))
    names = sorted(meanings)
    kept = {names[place] for place in np.random.default_rng(0).permutation(len(names))[:INTENTS]}
    sides = [
        [Row(str(row["text"]), str(row["label"]), "") for row in _lines(data / "clinc150" / f"{side}.jsonl")]
        for side in ("train", "test")
    ]
    return Outside({name: meanings[name] for name in names if name in kept}, *sides)


def _tweets(data: Path, key: str, meanings: Mapping[str, str]) -> Outside:
    rows = _lines(data / "airline_tweets" / "stream.jsonl")
    sure = [Row(str(row["text"]), str(row[key]), str(row["text"])) for row in rows if row["confidence"] == 1.0]
    return Outside(meanings, *_halves(sure))


def _sentiment(data: Path) -> Outside:
    return _tweets(
        data,
        "sentiment",
        {
            "negative": "the customer complains about the airline",
            "neutral": "the customer asks or tells the airline something, without praise or complaint",
            "positive": "the customer thanks or praises the airline",
        },
    )


def _reasons(data: Path) -> Outside:
    return _tweets(
        data,
        "reason",
        {
            "Customer Service Issue": "nobody helps, answers the phone or replies",
            "Late Flight": "the flight is delayed or the customer waits on the plane",
            "Cancelled Flight": "the flight was cancelled",
            "Lost Luggage": "a bag is missing or comes late",
            "Bad Flight": "seats, food, entertainment or comfort on board were bad",
            "Flight Booking Problems": "booking, changing or paying for a ticket does not work",
            "Flight Attendant Complaints": "the crew or staff at the gate were rude",
        },
    )


def _airline_turns(data: Path) -> Outside:
    meanings = {
        "openinggreeting": "the customer says hello",
        "closinggreeting": "the customer says goodbye",
        "thankyou": "the customer says thanks",
        "confirmation": "the customer agrees or says yes",
        "rejection": "the customer says no, or needs nothing else",
        "bookflight": "the customer wants to book a flight",
        "changeseatassignment": "the customer wants another seat",
        "getboardingpass": "the customer wants a boarding pass",
        "getseatinfo": "the customer asks which seat is theirs",
    }
    folder = data / "multidogo" / "airline"
    sides = [
        [Row(str(row["text"]), row["intents"][0], "") for row in _lines(folder / f"{side}.jsonl") if len(row["intents"]) == 1]
        for side in ("train", "test")
    ]
    return Outside(meanings, *sides)


def _hate(data: Path) -> Outside:
    with (data / "hatecheck" / "test_suite_cases.csv").open(encoding="utf-8", newline="") as stream:
        rows = [Row(row["test_case"], row["label_gold"], row["templ_id"]) for row in csv.DictReader(stream)]
    meanings = {
        "hateful": "the text attacks or demeans people for the group that they belong to",
        "non-hateful": "the text attacks nobody for a group that they belong to",
    }
    return Outside(meanings, *_halves(rows))


def _answers(data: Path) -> Outside:
    meanings = {
        "information": "what a disease is",
        "treatment": "how a disease is treated",
        "research": "what research is being done on a disease",
        "outlook": "what the prognosis of a disease is",
        "exams and tests": "how a disease is diagnosed",
        "symptoms": "what the symptoms of a disease are",
        "causes": "what causes a disease",
        "prevention": "how a disease can be prevented",
    }
    rows = _lines(data / "medquad_subset" / "medquad_subset.jsonl")
    return Outside(meanings, *_halves([Row(" ".join(str(r["answer"]).split()), str(r["qtype"]), str(r["doc"])) for r in rows]))


READERS: Mapping[str, Callable[[Path], Outside]] = {
    CLINC: _clinc,
    "airline_sentiment": _sentiment,
    "airline_reason": _reasons,
    "multidogo_airline": _airline_turns,
    "hatecheck": _hate,
    "medquad_answers": _answers,
}
"""Readers of the sets by name. Long texts are in `medquad_answers` only."""
