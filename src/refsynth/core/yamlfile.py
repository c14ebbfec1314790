"""YAML read and written with care: a key twice, an alias, and more depth or size than a configuration has are refused.

Words that YAML 1.1 would read as numbers or dates stay text: 007, 12:30, 2024-05-01. As a key every number is text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 1 << 20
MOST_DEPTH = 40

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where PyYAML has it
_NUMBERS = {
    "tag:yaml.org,2002:int": re.compile(r"[-+]?(?:0|[1-9][0-9]*)"),
    "tag:yaml.org,2002:float": re.compile(
        r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
    ),
}


class _Loader(_Base):  # type: ignore[misc]
    """The safe loader, limited to plain numbers, which refuses a key that is there twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in known if tag not in (*_NUMBERS, "tag:yaml.org,2002:timestamp")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for name, value in node.value:
            key = name.value if name.tag in _NUMBERS else self.construct_object(name, deep=True)
            if not isinstance(key, (str, bool, type(None))):
                raise yaml.constructor.ConstructorError(None, None, "a key that is no text", name.start_mark)
            if key in found:
                raise yaml.constructor.ConstructorError(None, None, f"the key '{key}' is there twice", name.start_mark)
            found[key] = self.construct_object(value, deep=deep)
        return found


class _Dumper(yaml.SafeDumper):
    """The safe dumper, which also quotes texts that only `parse_yaml` reads as numbers, such as 1e5."""


for _tag, _pattern in _NUMBERS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern.pattern})$"), list("-+.0123456789"))


def dump_yaml(value: Any, **layout: Any) -> str:
    """Return a value as YAML that `parse_yaml` reads back; `layout` is as `yaml.dump` takes it."""
    return str(yaml.dump(value, Dumper=_Dumper, allow_unicode=True, **layout))


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML document.

    Raises:
        yaml.YAMLError: it is not valid, has a key twice or an alias, or has more depth or size than a person writes.
    """
    if len(text) > MOST_BYTES:
        raise yaml.YAMLError(f"{len(text):,} characters, expected at most {MOST_BYTES:,}")
    depth = 0
    for event in yaml.parse(text, Loader=_Base):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            raise _refused(f"more than {MOST_DEPTH} levels", event)
        if isinstance(event, yaml.AliasEvent):
            raise _refused(f"the alias *{event.anchor}: write the value out", event)
    return yaml.load(text, Loader=_Loader)


def _refused(problem: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def read_yaml(path: Path) -> Any:
    """Return the value of a YAML file.

    Raises:
        yaml.YAMLError: see `parse_yaml`.
        OSError, UnicodeDecodeError: it cannot be read, or is not UTF-8.
    """
    with path.open("rb") as stream:
        data = stream.read(4 * MOST_BYTES + 1)
    return parse_yaml(data.decode("utf-8-sig"))


def place_of(error: Exception, path: Path) -> str:
    """Return `FILE line N: what is wrong` for an error that reading YAML raised."""
    mark = getattr(error, "problem_mark", None)
    where = f"{path} line {mark.line + 1}" if mark else str(path)
    return f"{where}: not valid YAML ({getattr(error, 'problem', None) or error})"
