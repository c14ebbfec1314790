"""The scripts that choose constants measure what they say."""

import csv
import json

import numpy as np

from benchmarks.constants.doubt import shipped
from benchmarks.constants.outside import INTENTS, read_outside
from benchmarks.constants.temperature import GRID, losses
from refsynth.kinds.metrics import softmax


def test_cases_of_one_template_are_on_one_side(tmp_path):
    (tmp_path / "hatecheck").mkdir()
    with (tmp_path / "hatecheck" / "test_suite_cases.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["test_case", "label_gold", "templ_id"])
        writer.writeheader()
        for number in range(120):
            label = "hateful" if number % 2 else "non-hateful"
            writer.writerow({"test_case": f"case {number}", "label_gold": label, "templ_id": number // 4})
    found = read_outside(tmp_path, "hatecheck")
    sides = [{row.group for row in side} for side in (found.drawn_from, found.measured_on)]
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 30
    draws = [found.sample(shots=3, seed=seed, rows=20) for seed in (0, 1)]
    assert [row["label"] for row in draws[0].train].count("hateful") == 3
    assert draws[0].train != draws[1].train
    assert draws[0].test == draws[1].test


def test_no_text_is_drawn_and_measured_on(tmp_path):
    (tmp_path / "clinc150").mkdir()
    labels = {f"label {number}": "about it" for number in range(INTENTS + 5)}
    (tmp_path / "clinc150" / "labels.json").write_text(json.dumps(labels), "utf-8")
    for side in ("train", "test"):
        rows = [
            {"text": f"{label} {side if number else 'both'} {number}", "label": label} for label in labels for number in range(3)
        ]
        (tmp_path / "clinc150" / f"{side}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    found = read_outside(tmp_path, "clinc20")
    assert len(found.meanings) == INTENTS
    assert len(found.drawn_from) == 3 * INTENTS
    assert len(found.measured_on) == 2 * INTENTS


def test_a_doubt_ships_what_the_gate_would():
    truth = np.zeros(40, int)
    truth[20:] = 1
    frozen, tfidf = truth.copy(), truth.copy()
    frozen[:6] = 1  # six rows more: a gain of 0.15, 2.6 standard errors
    one = {"truth": truth.tolist(), "held": {"tfidf": tfidf.tolist(), "frozen": frozen.tolist()}}
    assert [shipped(one, doubt=doubt) for doubt in (0.0, 2.0, 3.0)] == ["tfidf", "tfidf", "frozen"]


def test_the_loss_is_least_at_the_temperature_that_the_labels_were_drawn_at():
    rng = np.random.default_rng(0)
    ratios = rng.normal(0, 0.3, (4000, 3))
    ratios -= ratios.mean(0)
    for true in (0.1, 0.2):
        chances = softmax(ratios / true)
        labels = (rng.random((4000, 1)) > chances.cumsum(1)).sum(1)
        assert GRID[int(np.argmin(losses(ratios, labels)))] == true
