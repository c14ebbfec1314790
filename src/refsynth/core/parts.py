"""The parts of a step's key by name, so that a step that is made again can say which of them changed. No part is a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from refsynth.core.files import Json
from refsynth.core.hashes import canonical, digest


def parts_of(decisive: Mapping[str, Json]) -> dict[str, Json]:
    """Return what decides the result of a step, by name: hashes, and settings that are no texts as they are.

    Names are those of settings, such as `training.epochs`, then `inputs.<step>`, `extra.<name>` and `code`.

    Args:
        decisive: the value of `RunFolder.key_of`.
    """
    return {
        **{name: part for section, value in decisive["config"].items() for name, part in _settings_below(section, value)},
        **{f"inputs.{name}": value for name, value in decisive["inputs"].items()},
        **{f"extra.{name}": digest(value) for name, value in decisive["extra"].items()},
        "code": decisive["code"],
    }


def _settings_below(name: str, value: Json) -> Iterator[tuple[str, Json]]:
    """Yield the settings below a section with their dotted names. Texts and lists become hashes: they may be the user's."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _settings_below(f"{name}.{key}", item)
    else:
        yield name, value if value is None or isinstance(value, (int, float)) else digest(value)


def changed_parts(before: Json, after: Mapping[str, Json]) -> list[str]:
    """Return the sorted names of the parts that differ; of a whole section that came or went, its own name only."""
    if not isinstance(before, Mapping):
        return []
    came_or_went = before.keys() ^ after.keys()
    same = {name for name in before.keys() & after.keys() if canonical(before[name]) == canonical(after[name])}
    differing = (before.keys() | after.keys()) - same
    return sorted(name for name in differing if not any(name.startswith(f"{each}.") for each in came_or_went))
