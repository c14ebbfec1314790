"""How fast we fine-tune: the trainer against that of transformers at its defaults, on the same network.

Both train the same encoder and head for the same epochs on the same rows, with the same learning rates, threads and longest text.
The peer has what it does if nothing is said: batches of 8 rows in random order, float32, attention by the fused kernel; its rows
are padded to the maximum, as its guide does. A second arm of it pads each batch to its longest row, and a third does so with
batches of our size. Sides take turns, so that the load of the machine falls on all.
"""

from __future__ import annotations

import copy
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from benchmarks.cells import Cell, Cells, figure, means
from benchmarks.sets import Sample, read_sample
from benchmarks.suite import cell
from refsynth.core.machine import describe_machine
from refsynth.core.types import Example, IntArray
from refsynth.models.catalog import encoder_for
from refsynth.models.network import TransformerEncoder
from refsynth.models.seeding import seeded
from refsynth.models.store import ModelStore
from refsynth.training.finetune import FinetuneLearner
from refsynth.training.objective import SCALE
from refsynth.training.schedule import HEAD_RATE
from refsynth.training.trainer import Recipe

SETS = ("ag_news_test", "snips")
TEST_ROWS, EPOCHS = 200, 3
RATE = 5e-5
MAX_TOKENS = 128
OURS, THEIRS = "refsynth", "transformers.Trainer"
PADDED, LARGER = "transformers.Trainer, padded by batch", "transformers.Trainer, padded by batch, batches of 16"
FLOOR, AIM = 2.0, 3.5
NOISE = 2.0
"""Points of accuracy that ours may be behind in the mean."""


class Size(NamedTuple):
    """How much is measured: sets, repeats, and labelled rows per class."""

    sets: tuple[str, ...]
    repeats: int
    shots: int


WHOLE, QUICK = Size(SETS, 5, 32), Size(SETS[:1], 2, 12)


def measure(data: Path, results: Path, *, version: str, quick: bool, say: Callable[[str], None]) -> Cells:
    """Measure the repeats that are missing, the sides in turn in this process, and return all."""
    import transformers

    _ = transformers.Trainer  # loaded when it is first named, which is not training
    cells = Cells(results / "trainer.jsonl", machine=describe_machine())
    size = QUICK if quick else WHOLE
    for name in size.sets:
        for seed in range(size.repeats):
            key = {"set": name, "seed": seed, "shots": size.shots, "version": version}
            if len(cells.find(**key)) == len(SIDES):
                continue
            sample = read_sample(data, name, shots=size.shots, seed=seed, test_rows=TEST_ROWS)
            spec = encoder_for("en")
            encoder = TransformerEncoder(ModelStore().path(spec.name), prefix=spec.prefix, max_tokens=MAX_TOKENS)
            order = list(SIDES) if seed % 2 else list(reversed(SIDES))
            for system in order:
                cells.add({**key, **_timed(system, encoder, sample, seed), "machine": describe_machine()})
            one = {each["system"]: each["seconds"] for each in cells.find(**key)}
            theirs = ", ".join(f"{one[system]:.1f}" for system in SIDES if system != OURS)
            say(f"{name} {seed}: {one[OURS]:.1f} s against {theirs} s")
    return cells


def _timed(system: str, encoder: TransformerEncoder, sample: Sample, seed: int) -> Cell:
    started, spent = time.monotonic(), time.process_time()
    said = SIDES[system](encoder, sample, seed)
    seconds, spent = time.monotonic() - started, time.process_time() - spent
    classes = said()  # asking the test rows is not training
    truth = sample.classes(sample.test)
    return cell(system, truth, classes, seconds, len(sample.labels)) | {
        "cpu_seconds": round(spent, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def _ours(encoder: TransformerEncoder, sample: Sample, seed: int) -> Callable[[], IntArray]:
    rows = [Example(f"row-{i}", row["text"], row["label"]) for i, row in enumerate(sample.train)]
    learner = FinetuneLearner(tuple(sample.labels), encoder, recipe=Recipe(epochs=EPOCHS, rate=RATE))
    predictor = learner.fit(rows, (), seed=seed)
    return lambda: np.asarray(predictor.logits([row["text"] for row in sample.test])).argmax(1)


class _Classifier(torch.nn.Module):
    """The same network as the peer wants it: a loss from padded rows."""

    def __init__(self, encoder: TransformerEncoder, k: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, torch.nn.Linear(encoder.dimension, k)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the loss of padded rows [N, T]."""
        states = self.encoder.transformer(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        weights = attention_mask.unsqueeze(-1).to(states.dtype)
        pooled = torch.nn.functional.normalize((states * weights).sum(1) / weights.sum(1), dim=-1)
        logits = self.head(torch.nn.functional.dropout(SCALE * pooled, 0.1, training=self.training))
        return {"loss": torch.nn.functional.cross_entropy(logits, labels), "logits": logits}


def _theirs(
    encoder: TransformerEncoder, sample: Sample, seed: int, *, pad: Literal["max_length", "longest"], batch: int = 8
) -> Callable[[], IntArray]:
    import transformers

    with seeded(seed):
        network = _Classifier(copy.deepcopy(encoder), len(sample.labels))
    network.encoder.transformer.set_attn_implementation("sdpa")  # as a model has it that is loaded without a word
    ids = network.encoder.tokenize([row["text"] for row in sample.train])
    classes = sample.classes(sample.train)
    rows = [{"input_ids": row, "labels": int(label)} for row, label in zip(ids, classes, strict=True)]
    groups = [{"params": network.encoder.parameters(), "lr": RATE}, {"params": network.head.parameters(), "lr": HEAD_RATE}]
    with tempfile.TemporaryDirectory() as work:
        arguments = transformers.TrainingArguments(
            output_dir=work,
            num_train_epochs=EPOCHS,
            seed=seed,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=False,
            per_device_train_batch_size=batch,
        )
        optimiser = torch.optim.AdamW(groups, fused=True)  # as is its default
        collator = transformers.DataCollatorWithPadding(network.encoder.tokenizer, padding=pad, max_length=MAX_TOKENS)
        trainer = transformers.Trainer(
            model=network, args=arguments, train_dataset=rows, data_collator=collator, optimizers=(optimiser, None)
        )
        trainer.train()
    network.eval()

    def said() -> IntArray:
        features = torch.from_numpy(SCALE * network.encoder.encode([row["text"] for row in sample.test]))
        with torch.inference_mode():
            return np.asarray(network.head(features).argmax(1).numpy())

    return said


SIDES: dict[str, Callable[[TransformerEncoder, Sample, int], Callable[[], IntArray]]] = {
    OURS: _ours,
    THEIRS: partial(_theirs, pad="max_length"),
    PADDED: partial(_theirs, pad="longest"),
    LARGER: partial(_theirs, pad="longest", batch=Recipe().batch),
}
"""Each trains on a sample and returns who classifies the test rows."""


def outcome(cells: Cells) -> dict[str, Any]:
    """Return the table of seconds, accuracies and ratios, and the checks against the floors."""
    head = "set | side | seconds | accuracy | times ours, wall [least-most] | times ours, processor [least-most]"
    lines = [f"| {head} |", "|---" * 6 + "|"]
    for name in SETS:
        for system in SIDES:
            if not (pairs := _pairs(cells, system, name)):
                continue
            seconds, points = (np.mean([other[key] for _, other in pairs]) for key in ("seconds", "accuracy"))
            ratios = " | ".join(_spread([other[key] / ours[key] for ours, other in pairs]) for key in ("seconds", "cpu_seconds"))
            lines.append(f"| {name} | {system} | {seconds:.1f} | {100 * points:.1f} | {ratios} |")
    speed = [other["seconds"] / ours["seconds"] for ours, other in _pairs(cells, THEIRS)]
    gaps = means((ours["seed"], 100 * (ours["accuracy"] - other["accuracy"])) for ours, other in _pairs(cells, THEIRS))
    checks = [
        _check("times as fast as transformers.Trainer, median", speed, np.median, FLOOR, AIM, "times"),
        _check("accuracy over transformers.Trainer", gaps, np.mean, -NOISE, 0.0, "points"),
    ]
    return {"name": "trainer", "machine": describe_machine(), "rows": cells.rows, "checks": checks, "table": "\n".join(lines)}


def _pairs(cells: Cells, system: str, name: str | None = None) -> list[tuple[Cell, Cell]]:
    """Return our cell and another side's of each repeat that has both."""
    where = {} if name is None else {"set": name}
    keys = [{key: one[key] for key in ("set", "seed", "shots", "version")} for one in cells.find(system=OURS, **where)]
    found = [(cells.find(system=OURS, **key), cells.find(system=system, **key)) for key in keys]
    return [(ours[-1], other[-1]) for ours, other in found if other]


def _spread(ratios: list[float]) -> str:
    return f"{np.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"


def _check(
    name: str, values: list[float], statistic: Callable[[Any], Any], floor: float, aim: float, unit: str
) -> dict[str, Any]:
    measured = figure(values, unit, over="repeats", statistic=statistic)
    return {"name": name, **measured, "floor": floor, "aim": aim, "ok": measured["value"] >= floor}
