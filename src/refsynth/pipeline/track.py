"""Hands a run to the trackers that the user names: configuration, results, curves, report and bundle.

Everything is written below the run folder. Only wandb sends anything, and only with `WANDB_MODE=online`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from refsynth.core.extras import check_installed, require
from refsynth.core.sections import TrackerName
from refsynth.evaluation.report import Report
from refsynth.evaluation.sections import FIGURES
from refsynth.pipeline.evidence import Evidence, Learned, Paths

PROJECT = "refsynth"

LONGEST_VALUE = 6000
"""The most characters that mlflow takes as a value."""


class Point(NamedTuple):
    """One value of a curve."""

    name: str
    value: float
    step: int


def points(learned: Learned) -> Iterator[Point]:
    """Yield the curves of reinforcement, turn by turn, and of the rounds."""
    for curve in learned.curves:
        for turn in curve.turns:
            values = {
                "reward": turn.reward,
                "gain in held-out loss": turn.gain,
                "faulty": turn.faulty,
                "distinct word pairs": turn.distinct_2,
                "kl": turn.kl,
            }
            for name, value in values.items():
                if value is not None:
                    yield Point(f"reinforce/{curve.half} half/{name}", value, turn.turn)
    for one in learned.rounds:
        yield Point("rounds/held-out accuracy", one.accuracy, one.number)
        yield Point("rounds/drafts kept", one.kept, one.number)
        if one.coverage is not None:
            yield Point("rounds/real rows covered", one.coverage, one.number)


def check_trackers(trackers: Sequence[TrackerName]) -> None:
    """Check that the trackers are installed, before a run of many minutes.

    Raises:
        ExtraError: a tracker is not installed.
    """
    check_installed(*trackers, extra="track")


class Tracked(NamedTuple):
    """What a tracker gets of a run: the configuration by key, figures by name, curves, and the files of the run."""

    config: Mapping[str, str | float]
    figures: Mapping[str, float]
    curves: Sequence[Point]
    report: Paths
    bundle: Path


def tracked_of(evidence: Evidence, report: Report, paths: Paths) -> Tracked:
    """Return what trackers get of a finished run."""
    config = dict(_leaves(evidence.task.config.model_dump(mode="json")))
    return Tracked(config, dict(_figures(report)), list(points(evidence.learned)), paths, evidence.bundle)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str | float]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value if isinstance(value, (str, int, float)) else json.dumps(value, ensure_ascii=False)


def _figures(report: Report) -> Iterator[tuple[str, float]]:
    """Yield the figures of all systems with the ends of their intervals, under names that every tracker accepts."""
    for system in report.results.systems if report.results else ():
        place = "results/" + re.sub(r"[^\w .-]+", "_", "shipped" if system.shipped else system.name)
        for name, value in (("texts per second", system.texts_per_second), ("size in MB", system.size_mb)):
            if value is not None:
                yield f"{place}/{name}", float(value)
        for field in FIGURES:
            if (metric := getattr(system, field)) is not None:
                yield from ((f"{place}/{field}{end}", getattr(metric, part)) for end, part in _ENDS)


_ENDS = (("", "value"), (" low", "low"), (" high", "high"))


def track(tracked: Tracked, trackers: Sequence[TrackerName], folder: Path) -> None:
    """Write the run for each tracker into its own folder."""
    for name in trackers:
        TRACKERS[name](tracked, folder / name)


def _tensorboard(tracked: Tracked, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # tensorboard draws the curves of two files in one folder as one
    writer = require("torch.utils.tensorboard", extra="track").SummaryWriter(str(folder))
    lines = "\n".join(f"| {key} | {str(value).replace('|', '/')} |" for key, value in tracked.config.items())
    writer.add_text("configuration", f"| key | value |\n|---|---|\n{lines}")
    writer.add_text("report", tracked.report.markdown.read_text(encoding="utf-8"))
    writer.add_text("bundle", str(tracked.bundle))
    for name, value in tracked.figures.items():
        writer.add_scalar(name, value, 0)
    for name, value, step in tracked.curves:
        writer.add_scalar(name, value, step)
    writer.close()


def _wandb(tracked: Tracked, folder: Path) -> None:
    wandb = require("wandb", extra="track")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True)
    mode = os.environ.get("WANDB_MODE", "offline")
    with wandb.init(project=PROJECT, dir=str(folder), mode=mode, settings=settings, config=dict(tracked.config)) as run:
        for step in sorted({point.step for point in tracked.curves}):
            run.log({point.name: point.value for point in tracked.curves if point.step == step}, step=step)
        run.summary.update(dict(tracked.figures))
        for file in (*tracked.report, *sorted(tracked.bundle.iterdir())):
            run.save(str(file), base_path=str(tracked.bundle.parent), policy="now")


def _mlflow(tracked: Tracked, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # mlflow uses an older API of SQLAlchemy
        client = require("mlflow", extra="track").MlflowClient(tracking_uri=f"sqlite:///{folder.absolute()}/mlflow.db")
        known = client.get_experiment_by_name(PROJECT)  # an earlier run in this folder made it
        files = (folder.absolute() / "artifacts").as_uri()  # by default they would go to the working directory
        run = client.create_run(known.experiment_id if known else client.create_experiment(PROJECT, files)).info.run_id
        for key, value in tracked.config.items():
            client.log_param(run, re.sub(r"[^\w ./-]+", "_", key), str(value)[:LONGEST_VALUE])
        for name, value in tracked.figures.items():
            client.log_metric(run, name, value)
        for name, value, step in tracked.curves:
            client.log_metric(run, name, value, step=step)
        for file in tracked.report:
            client.log_artifact(run, str(file))
        client.log_artifacts(run, str(tracked.bundle), "bundle")
        client.set_terminated(run)


TRACKERS: Mapping[TrackerName, Callable[[Tracked, Path], None]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
