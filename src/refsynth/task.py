"""Task: what is asked, checked: the kind, the labels with their descriptions, the language, where the rows are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Self

from refsynth.core.config import RunConfig


@dataclass(frozen=True)
class Task:
    """A single-label classification task. `config` is the tree it came from."""

    labels: tuple[str, ...]
    descriptions: Mapping[str, str]
    language: str
    train: Path | None
    test: Path | None
    config: RunConfig

    @classmethod
    def load(cls, path: str | Path, overrides: tuple[str, ...] = ()) -> Self:
        """Read a task.yaml.

        Raises:
            ConfigError: it is absent or wrong.
        """
        return cls.of(RunConfig.load(Path(path), overrides))

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """Return the task that a configuration describes."""
        return cls(
            labels=tuple(config.labels),
            descriptions=MappingProxyType(config.labels),
            language=config.language,
            train=config.data.train,
            test=config.data.test,
            config=config,
        )
