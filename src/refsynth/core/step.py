"""What a step depends on, declared: parts of the configuration, earlier steps, and the code that it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

from refsynth.core.code import code_of


@dataclass(frozen=True)
class StepSpec:
    """What decides the result of a step. Its key is made of this, so that nothing is forgotten and nothing is left over.

    Attributes:
        name: of the step, and of its folder unless the caller names another, as for one step per fold.
        sections: keys of the configuration, whole sections (`filter`) or parts of them (`gate.folds`).
        ignored: parts of these sections that make no difference to it.
        inputs: steps whose results it reads.
        optional: steps whose results it reads in some runs; the caller tells when.
        extra: names of what else decides the result: hashes of files and models, texts that are drawn. `data.train` stands for
            the content of that file.
        code: modules that do work but are not imported, since they come as values, such as learners.
        excluded: imported modules that do not change the result; what only they import is left out too.
    """

    name: str
    sections: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def without(self, *keys: str) -> Self:
        """Return a copy that ignores further parts of the configuration: results under its key survive a change of these."""
        return replace(self, ignored=(*self.ignored, *keys))

    def settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parts of a configuration that the step depends on, by section.

        Args:
            config: the tree; a section that nothing reads is None.

        Raises:
            KeyError: the configuration has no such section.
        """
        return {section: _without(_part(config, section), section, self.ignored) for section in self.sections}

    def code_hash(self, make: Callable[..., Any]) -> str:
        """Return the hash of the code that `make` and the declared modules run."""
        return code_of(home_of(make), *self.code, excluded=self.excluded)


def home_of(make: Callable[..., Any]) -> str:
    """Return the module in which a function, a method or a partial call of one is defined."""
    while isinstance(make, partial):
        make = make.func
    return str(getattr(make, "__module__", None) or type(make).__module__)


def _part(tree: Any, key: str) -> Any:
    """Return the value under a dotted key; None below a value that is not a section."""
    first, *rest = key.split(".")
    value = tree[first]
    for name in rest:
        value = value[name] if isinstance(value, Mapping) else None
    return value


def _without(value: Any, key: str, ignored: tuple[str, ...]) -> Any:
    """Return a value without the parts that dotted keys name."""
    if not isinstance(value, Mapping):
        return value
    return {name: _without(item, f"{key}.{name}", ignored) for name, item in value.items() if f"{key}.{name}" not in ignored}
