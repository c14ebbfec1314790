"""Curves for trackers that the user names: files below the run folder. Nothing is sent anywhere."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from refsynth.core.extras import check_installed, require
from refsynth.core.sections import TrackerName
from refsynth.pipeline.finished import Learned

PROJECT = "refsynth"


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


def track(learned: Learned, trackers: Sequence[TrackerName], folder: Path) -> None:
    """Write the curves for each tracker into a folder of its own."""
    for name in trackers:
        TRACKERS[name](list(points(learned)), folder / name)


def _tensorboard(curves: list[Point], folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # curves of two files in a folder are drawn as one
    writer = require("torch.utils.tensorboard", extra="track").SummaryWriter(str(folder))
    for name, value, step in curves:
        writer.add_scalar(name, value, step)
    writer.close()


def _wandb(curves: list[Point], folder: Path) -> None:
    wandb = require("wandb", extra="track")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True, x_disable_stats=True)
    with wandb.init(project=PROJECT, dir=str(folder), mode="offline", settings=settings) as run:
        for step in sorted({point.step for point in curves}):
            run.log({point.name: point.value for point in curves if point.step == step}, step=step)


def _mlflow(curves: list[Point], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # mlflow asks SQLAlchemy in an older way
        client = require("mlflow", extra="track").MlflowClient(tracking_uri=f"sqlite:///{folder.absolute()}/mlflow.db")
        known = client.get_experiment_by_name(PROJECT)  # mlflow keeps the runs of a folder beside each other
        run = client.create_run(known.experiment_id if known else client.create_experiment(PROJECT)).info.run_id
        for name, value, step in curves:
            client.log_metric(run, name, value, step=step)
        client.set_terminated(run)


TRACKERS: Mapping[TrackerName, Callable[[list[Point], Path], None]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
