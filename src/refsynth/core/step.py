"""What a step depends on, declared: the parts of the configuration, the steps before it, and the code that it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

from refsynth.core.code import code_of


@dataclass(frozen=True)
class StepSpec:
    """What decides the result of a step. Its key is made of this, so that nothing else can be forgotten or left over.

    Attributes:
        name: of the step, and of its folder unless the caller names another, as where there is one for each fold.
        sections: keys of the configuration, whole sections (`filter`) or parts of them (`gate.folds`).
        but: what of these sections makes no difference to it.
        inputs: steps whose results it reads.
        optional: steps whose results it reads in some runs; the caller tells when.
        extra: names of what else decides the result: hashes of files and models, texts that are drawn. `data.train` stands for
            the content of that file.
        code: modules that work is done by and that come as values, such as learners; beside those that are imported.
        apart: modules that are imported and change nothing of the result, with all that they import.
    """

    name: str
    sections: tuple[str, ...] = ()
    but: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()

    def without(self, *keys: str) -> Self:
        """Return it without some parts of the configuration: what is kept under such a key outlives a change of these."""
        return replace(self, but=(*self.but, *keys))

    def settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of a configuration it depends on, by section.

        Args:
            config: the tree; a section is None where nothing reads it.

        Raises:
            KeyError: the configuration has no such section.
        """
        return {section: _without(_part(config, section), section, self.but) for section in self.sections}

    def code_hash(self, make: Callable[..., Any]) -> str:
        """Return the hash of the code that `make` and the declared modules run."""
        return code_of(home_of(make), *self.code, apart=self.apart)


def home_of(make: Callable[..., Any]) -> str:
    """Return the module that a function, a method or a partial call of one was written in."""
    while isinstance(make, partial):
        make = make.func
    return str(getattr(make, "__module__", None) or type(make).__module__)


def _part(tree: Any, key: str) -> Any:
    """Return the value under a dotted key; None below a value that is no section."""
    first, *rest = key.split(".")
    value = tree[first]
    for name in rest:
        value = value[name] if isinstance(value, Mapping) else None
    return value


def _without(value: Any, key: str, but: tuple[str, ...]) -> Any:
    """Return a value without the parts that dotted keys name."""
    if not isinstance(value, Mapping):
        return value
    return {name: _without(each, f"{key}.{name}", but) for name, each in value.items() if f"{key}.{name}" not in but}
