"""The final evaluation: the only place that reads the test file, once, when nothing is left to decide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from refsynth.bundle.model import load
from refsynth.core.config import RunConfig
from refsynth.core.errors import DataError
from refsynth.core.run import RunFolder, read_json, write_json
from refsynth.core.sections import DataConfig
from refsynth.core.types import FloatArray, IntArray
from refsynth.data.io import BadRow, iter_rows
from refsynth.models.predict import logits_of
from refsynth.pipeline.build import Workshop
from refsynth.pipeline.fit import Final
from refsynth.pipeline.rows import file_digest_or_none
from refsynth.quality.filter import kept
from refsynth.quality.leakage import leaked

MAJORITY = "majority"
SHIPPED = "shipped"


@dataclass(frozen=True)
class TestResult:
    """What each system said of the test rows.

    `predicted` maps a system (`majority`, a candidate's name, `shipped`) to class indices [N]; `probabilities` [N, K] are the
    bundle's. `leaked` are ids of drafts that resemble a test row; `unusable` counts rows by why they could not be measured.
    """

    truth: IntArray
    predicted: Mapping[str, IntArray]
    probabilities: FloatArray
    leaked: tuple[str, ...]
    unusable: Mapping[str, int]


def evaluate_test(
    config: RunConfig, final: Final, shop: Workshop, bundle: Path, folder: RunFolder, *, made: str
) -> TestResult | None:
    """Read the test file and measure every candidate and the bundle on it; None where the task names no test file.

    `made` is the step that made the bundle.

    Raises:
        DataError: the file cannot be read, or has no usable row.
    """
    path = config.data.test
    if path is None:
        return None
    key = {"file": file_digest_or_none(path), "bundle": folder.hash_of(made), "fit": folder.hash_of("fit")}

    def make(out: Path) -> None:
        texts, truth, unusable = _read(path, config.data, shop.labels)
        model = load(bundle)
        probabilities = model.probabilities(texts)
        majority = Counter(example.label for example in final.real).most_common(1)[0][0]
        said = {MAJORITY: [shop.labels.index(majority)] * len(texts), SHIPPED: probabilities.argmax(1).tolist()}
        for candidate, logits in logits_of(final.predictors(shop), texts).items():
            said[str(candidate)] = logits.argmax(1).tolist()
        result = {
            "truth": truth,
            "predicted": said,
            "probabilities": probabilities.round(6).tolist(),
            "leaked": leaked(kept(final.drafts), texts),
            "unusable": unusable,
        }
        write_json(out / "result.json", result)

    result = read_json(folder.step("test", key, make) / "result.json")
    return TestResult(
        np.array(result["truth"]),
        {name: np.array(classes) for name, classes in result["predicted"].items()},
        np.array(result["probabilities"]),
        tuple(result["leaked"]),
        result["unusable"],
    )


def _read(path: Path, data: DataConfig, labels: Sequence[str]) -> tuple[list[str], list[int], dict[str, int]]:
    texts, truth, unusable = [], [], Counter[str]()
    for row in iter_rows(path, columns=data.columns, delimiter=data.delimiter, encoding=data.encoding):
        if isinstance(row, BadRow):
            unusable["an unreadable row"] += 1
        elif row.label not in labels:
            unusable["an unknown or missing label"] += 1
        else:
            texts.append(row.text)
            truth.append(labels.index(row.label))
    if not texts:
        found = ", ".join(f"{count} with {why}" for why, count in unusable.items()) or "no rows"
        raise DataError(f"{path}: no row to measure on: {found}", remedy="correct data.test or data.columns in task.yaml")
    return texts, truth, dict(unusable)
