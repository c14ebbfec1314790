"""Registries: the specs of one sort of component by name, those of this package and those that others bring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Generic, Protocol, TypeVar

from refsynth.core.errors import ConfigError, nearest


class Named(Protocol):
    """What has a name."""

    @property
    def name(self) -> str:
        """By which it is asked for."""
        ...


Spec = TypeVar("Spec", bound=Named)


class Registry(Mapping[str, Spec], Generic[Spec]):
    """Specs by name, in their order. Another package adds one by an entry point of the group, whose value is a spec.

    Entry points are read when a name is not known, or when all are listed: nobody waits for what he does not use.
    """

    def __init__(self, group: str, specs: Iterable[Spec]) -> None:
        """Take the specs of this package; `group` is that of the entry points."""
        self.group = group
        self._own = {spec.name: spec for spec in specs}
        self._found: dict[str, Spec] | None = None

    def register(self, spec: Spec) -> None:
        """Add a spec for this process.

        Raises:
            ConfigError: the name is taken.
        """
        if spec.name in self._own:
            raise ConfigError(f"{self.group}: '{spec.name}' is there already")
        self._own[spec.name] = spec

    def remove(self, name: str) -> None:
        """Take out a spec that was registered."""
        del self._own[name]

    def __getitem__(self, name: str) -> Spec:
        return self._own[name] if name in self._own else self._others[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._own, **self._others})

    def __len__(self) -> int:
        return len({**self._own, **self._others})

    def known(self, name: str) -> str:
        """Return a name that is known.

        Raises:
            ValueError: it is not; the nearest is named.
        """
        if name in self:
            return name
        remedy = nearest(name, self)
        raise ValueError(f"found {name!r}, known are {', '.join(self)}{f'; {remedy}' if remedy else ''}")

    @property
    def _others(self) -> dict[str, Spec]:
        if self._found is None:
            self._found = {}
            for point in entry_points(group=self.group):
                spec = point.load()
                self._found[spec.name] = spec
        return self._found
