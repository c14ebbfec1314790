"""The tree of plain values behind a configuration: read from a file, changed by key, its problems explained by key.

Nothing here knows what the keys mean; the sections define which keys there are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from refsynth.core.drafting import BRANCHES
from refsynth.core.errors import ConfigError, nearest
from refsynth.core.sections import Section
from refsynth.core.yamlfile import parse_yaml, place_of, read_yaml

QUOTES = "; as text yes, no, on, off, true and false need quotes"
"""Added to a message if YAML read a word as a truth value."""

SECRET = ("reference", "track")
"""Sections whose values may hold a password or a key. Messages do not repeat them."""


def read_tree(path: Path) -> dict[str, Any]:
    """Return the tree in a YAML file.

    Raises:
        ConfigError: the file is absent, cannot be read, or does not hold a tree.
    """
    try:
        tree = read_yaml(path)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file", remedy="write one with: refsynth init DIR --from FILE") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})", expected="a task.yaml file") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(place_of(error, path)) from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: found {type(tree).__name__}, expected keys such as labels, data, seed")
    return tree


def set_key(tree: dict[str, Any], override: str) -> None:
    """Change the tree by an override such as `synthesis.drafts=4000`.

    Raises:
        ConfigError: it is not `key=value`, or its value is not valid YAML.
    """
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: expected key=value", remedy="for example --set synthesis.drafts=4000")
    *parents, leaf = key.split(".")
    for parent in parents:
        branch = tree.get(parent)
        if not isinstance(branch, dict):  # absent, or a short form such as `reference: embedded`
            branch = tree[parent] = {}
        tree = branch
    try:
        tree[leaf] = parse_yaml(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from error


def complaints(error: ValidationError) -> list[ErrorDetails]:
    """Return what pydantic found wrong, each mistake once.

    A value may be a name or a section with keys, and pydantic reports what is wrong with it as each of these. Only the reports
    for what the user meant are kept: those of a name if a name was given, otherwise those of the section with the fewest
    missing and unknown keys. Reports of a name would also repeat the whole value, which may hold a secret. Lists that are too
    short only because of wrong entries are left out too.
    """
    found = error.errors()
    words = {problem["loc"][:-1] for problem in found if _is_word(problem) and not isinstance(problem["input"], Mapping)}
    unfit = Counter(
        place for problem in found if problem["type"] in ("missing", "extra_forbidden") and (place := _branch(problem))
    )
    places = {place for problem in found if (place := _branch(problem))}
    meant = {place for place in places if unfit[place] == min(unfit[other] for other in places if other[:-1] == place[:-1])}
    return [
        problem
        for problem in found
        if not _follows(problem, words)
        and not (_is_word(problem) and isinstance(problem["input"], Mapping))
        and (_branch(problem) is None or _branch(problem) in meant)
    ]


def _is_word(problem: ErrorDetails) -> bool:
    """Return whether a problem is about a value given as a name: one of a list, or one that is looked up."""
    return problem["type"] == "literal_error" or any(str(part).startswith("function-") for part in problem["loc"][-1:])


def _branch(problem: ErrorDetails) -> tuple[str | int, ...] | None:
    """Return the location of the union's branch (a section) that a problem is in; None if it is in none."""
    end = next((place for place, part in enumerate(problem["loc"], start=1) if part in BRANCHES), None)
    return None if end is None else problem["loc"][:end]


def _follows(problem: ErrorDetails, words: Collection[tuple[str | int, ...]]) -> bool:
    """Return whether a problem follows from another: a list is too short without its wrong entries, or a name is no section."""
    if problem["type"] == "too_short":
        return bool(len(problem["input"]) >= problem["ctx"]["min_length"])
    return problem["type"] == "model_type" and problem["loc"][:-1] in words


def explain(problem: ErrorDetails, root: type[Section]) -> str:
    """Return one line about a problem that pydantic found in a tree of the section `root`."""
    path = [part for part in problem["loc"] if not str(part).startswith(("literal", "function", "[key]"))]
    key = ".".join(str(part) for part in path if part not in (*BRANCHES, "named"))
    if problem["type"] == "extra_forbidden":
        known = _known_keys(path[:-1], root)
        return f"unknown key '{key}'; {nearest(str(path[-1]), known) or 'known there: ' + ', '.join(known)}"
    if problem["type"] == "missing":
        return f"'{key}' is missing"
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not key or problem["type"] == "value_error":
        return f"{key}: {message}" if key else message
    found = "something else" if path[0] in SECRET else repr(problem.get("input"))
    found = found if len(found) < 60 else found[:57] + "..."
    if problem["type"] == "literal_error":
        known = re.findall("'([^']*)'", problem["ctx"]["expected"])
        return "; ".join(
            filter(None, (f"{key}: found {found}, known are {', '.join(known)}", nearest(str(problem["input"]), known)))
        )
    if problem["type"] == "tuple_type":
        return f"{key}: found {found}, expected a list: [..., ...]"
    return f"{key}: {message}, found {found}{QUOTES * isinstance(problem.get('input'), bool)}"


def _known_keys(path: Sequence[str | int], model: type[Section]) -> list[str]:
    """Return the keys known at a place below a section (the parent of a wrong key)."""
    for part in path:
        if part in BRANCHES:
            model = BRANCHES[str(part)]
            continue
        field = model.model_fields.get(str(part))
        annotation = field.annotation if field else None
        if isinstance(annotation, type) and issubclass(annotation, Section):
            model = annotation
    return list(model.model_fields)
