"""Registries: the specs of one sort of component by name, those of this package and those of other packages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name
from typing import Any, Generic, Protocol, TypeVar

from refsynth.core.code import code_of
from refsynth.core.errors import ConfigError, nearest


class Named(Protocol):
    """Has a name."""

    @property
    def name(self) -> str:
        """The name by which it is requested."""


Spec = TypeVar("Spec", bound=Named)


class Registry(Mapping[str, Spec], Generic[Spec]):
    """Specs by name, in order. Another package adds one by an entry point in the group, whose value is a spec.

    Entry points are read only when a name is unknown or all are listed, so that other packages cost nothing until then.
    """

    def __init__(self, group: str | None, kind: type[Spec], specs: Iterable[Spec]) -> None:
        """Take the specs of this package.

        Args:
            group: of the entry points; None where other packages cannot add any.
            kind: the class of the specs.
            specs: of this package.
        """
        self.group = group
        self._kind = kind
        self._own = {spec.name: spec for spec in specs}
        self._found: dict[str, Spec] | None = None

    def register(self, spec: Spec) -> None:
        """Add a spec for this process, as from a notebook. What it names, `module:name`, must be importable.

        Raises:
            ConfigError: the name is taken.
        """
        if spec.name in self._own:
            raise ConfigError(f"{self.group or self._kind.__name__}: '{spec.name}' is there already")
        self._own[spec.name] = spec

    def __getitem__(self, name: str) -> Spec:
        return self._own[name] if name in self._own else self._others[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**self._own, **self._others})

    def __len__(self) -> int:
        return len({**self._own, **self._others})

    def known(self, name: str) -> str:
        """Return a name if it is known.

        Raises:
            ValueError: it is not; the message has the nearest known name.
        """
        if name in self:
            return name
        raise ValueError(self.unknown(name, repr(name)))

    def unknown(self, name: str, shown: str) -> str:
        """Return the message for an unknown name; `shown` is what it shows of the name, since that may be a secret."""
        remedy = nearest(name, self)
        return f"found {shown}, known are {', '.join(self)}{f'; {remedy}' if remedy else ''}"

    @property
    def _others(self) -> dict[str, Spec]:
        if self._found is None:
            others: dict[str, Spec] = {}
            for point in entry_points(group=self.group) if self.group else ():
                spec = self._loaded(point)
                if spec.name in self._own or spec.name in others:
                    raise ConfigError(f"{_origin(point)}: its '{spec.name}' of {self.group} is there already", remedy=_REMOVE)
                others[spec.name] = spec
            self._found = others
        return self._found

    def _loaded(self, point: EntryPoint) -> Spec:
        try:
            spec = point.load()
        except Exception as error:
            why = f"{type(error).__name__}: {error}".rstrip(": ")
            raise ConfigError(
                f"{_origin(point)}: '{point.value}' of {self.group} does not load ({why})", remedy=_REMOVE
            ) from error
        if not isinstance(spec, self._kind):
            found = f"'{point.value}' of {self.group} is of type {type(spec).__name__}"
            raise ConfigError(f"{_origin(point)}: {found}", expected=f"a {self._kind.__name__}", remedy=_REMOVE)
        return spec


_REMOVE = "have the package fixed, or uninstall it"


def _origin(point: EntryPoint) -> str:
    return f"the package '{point.dist.name}'" if point.dist else "an entry point"


def load(make: str) -> Any:
    """Import and return what a spec names as `module:name`.

    Raises:
        ConfigError: there is no such module, or nothing of that name in it.
    """
    try:
        return resolve_name(make)
    except (AttributeError, ValueError) as error:
        raise ConfigError(f"'{make}' cannot be imported ({error})", expected="module:name", remedy=_REMOVE) from error
    except ModuleNotFoundError as error:
        if error.name is None or not f"{make.partition(':')[0]}.".startswith(f"{error.name}."):
            raise  # a library is missing; the code that needs it reports that
        raise ConfigError(f"'{make}' cannot be imported ({error})", expected="module:name", remedy=_REMOVE) from error


@cache
def code_outside(make: str) -> str | None:
    """Return the hash of another package's code behind `module:name`; None for our own code, which steps hash themselves.

    As for steps, the hash covers the module and all that it imports from its package.
    """
    module = make.partition(":")[0]
    return None if module.partition(".")[0] == "refsynth" else code_of(module)
