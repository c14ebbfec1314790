"""A run for trackers that the user names: configuration, results, curves, report and bundle, as files below the run folder.

Nothing is sent anywhere, but by wandb to where the user has told it to with `WANDB_MODE=online`.
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
from refsynth.pipeline.evidence import Evidence, Learned
from refsynth.pipeline.report import Paths

PROJECT = "refsynth"

LONGEST_VALUE = 6000
"""Characters of a value that mlflow takes."""


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
    """See that the trackers are installed, before a run of many minutes.

    Raises:
        ExtraError: one is not.
    """
    check_installed(*trackers, extra="track")


class Story(NamedTuple):
    """What a tracker is told of a run: the configuration by key, figures by name, curves, and the files that the run left."""

    config: Mapping[str, str | float]
    figures: Mapping[str, float]
    curves: Sequence[Point]
    report: Paths
    bundle: Path


def story_of(evidence: Evidence, report: Report, paths: Paths) -> Story:
    """Return what there is to tell of a evidence run."""
    config = dict(_leaves(evidence.task.config.model_dump(mode="json")))
    return Story(config, dict(_figures(report)), list(points(evidence.learned)), paths, evidence.bundle)


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str | float]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", value if isinstance(value, (str, int, float)) else json.dumps(value, ensure_ascii=False)


def _figures(report: Report) -> Iterator[tuple[str, float]]:
    """Yield the figures of all systems, each with the ends of its interval, under names that every tracker takes."""
    for system in report.results.systems if report.results else ():
        place = "results/" + re.sub(r"[^\w .-]+", "_", "shipped" if system.shipped else system.name)
        for name, value in (("texts per second", system.texts_per_second), ("size in MB", system.size_mb)):
            if value is not None:
                yield f"{place}/{name}", float(value)
        for field in FIGURES:
            if (metric := getattr(system, field)) is not None:
                yield from ((f"{place}/{field}{end}", getattr(metric, part)) for end, part in _ENDS)


_ENDS = (("", "value"), (" low", "low"), (" high", "high"))


def track(story: Story, trackers: Sequence[TrackerName], folder: Path) -> None:
    """Write the run for each tracker into a folder of its own."""
    for name in trackers:
        TRACKERS[name](story, folder / name)


def _tensorboard(story: Story, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # curves of two files in a folder are drawn as one
    writer = require("torch.utils.tensorboard", extra="track").SummaryWriter(str(folder))
    lines = "\n".join(f"| {key} | {str(value).replace('|', '/')} |" for key, value in story.config.items())
    writer.add_text("configuration", f"| key | value |\n|---|---|\n{lines}")
    writer.add_text("report", story.report.markdown.read_text(encoding="utf-8"))
    writer.add_text("bundle", str(story.bundle))
    for name, value in story.figures.items():
        writer.add_scalar(name, value, 0)
    for name, value, step in story.curves:
        writer.add_scalar(name, value, step)
    writer.close()


def _wandb(story: Story, folder: Path) -> None:
    wandb = require("wandb", extra="track")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True)
    mode = os.environ.get("WANDB_MODE", "offline")
    with wandb.init(project=PROJECT, dir=str(folder), mode=mode, settings=settings, config=dict(story.config)) as run:
        for step in sorted({point.step for point in story.curves}):
            run.log({point.name: point.value for point in story.curves if point.step == step}, step=step)
        run.summary.update(dict(story.figures))
        for file in (*story.report, *sorted(story.bundle.iterdir())):
            run.save(str(file), base_path=str(story.bundle.parent), policy="now")


def _mlflow(story: Story, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # mlflow asks SQLAlchemy in an older way
        client = require("mlflow", extra="track").MlflowClient(tracking_uri=f"sqlite:///{folder.absolute()}/mlflow.db")
        known = client.get_experiment_by_name(PROJECT)  # mlflow keeps the runs of a folder beside each other
        files = (folder.absolute() / "artifacts").as_uri()  # or they would land where the process happens to be
        run = client.create_run(known.experiment_id if known else client.create_experiment(PROJECT, files)).info.run_id
        for key, value in story.config.items():
            client.log_param(run, re.sub(r"[^\w ./-]+", "_", key), str(value)[:LONGEST_VALUE])
        for name, value in story.figures.items():
            client.log_metric(run, name, value)
        for name, value, step in story.curves:
            client.log_metric(run, name, value, step=step)
        for file in story.report:
            client.log_artifact(run, str(file))
        client.log_artifacts(run, str(story.bundle), "bundle")
        client.set_terminated(run)


TRACKERS: Mapping[TrackerName, Callable[[Story, Path], None]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
