"""Task: a checked request: the kind, the labels with their descriptions, the language, and where the rows are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Self

from refsynth.core.config import RunConfig
from refsynth.core.pair import DIVIDER


@dataclass(frozen=True)
class Task:
    """A task: one label for each text or pair of texts, any number for each text, or labels of its words.

    `config` is the tree that it came from. `file` is the task.yaml that it was read from, and `overrides` are the changes to it;
    a task that Python code made has neither.
    """

    labels: tuple[str, ...]
    descriptions: Mapping[str, str]
    language: str
    train: Path | None
    test: Path | None
    config: RunConfig
    file: Path | None = None
    overrides: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: str | Path, overrides: tuple[str, ...] = ()) -> Self:
        """Read a task.yaml.

        Raises:
            ConfigError: it is absent or wrong.
        """
        return replace(cls.of(RunConfig.load(Path(path), overrides)), file=Path(path), overrides=tuple(overrides))

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

    @property
    def meanings(self) -> Mapping[str, str]:
        """Each label with what prompts say about its texts: its meaning, and for pairs and marks also how they are written."""
        if self.config.kind.words:
            return {label: f"[...]({label}) marks {meaning}" for label, meaning in self.descriptions.items()}
        if not self.config.kind.pair:
            return self.descriptions
        form = f"two texts stand side by side with {DIVIDER} between them, and"
        return {label: f"{form} {meaning}" for label, meaning in self.descriptions.items()}
