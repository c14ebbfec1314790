"""Rules that label a text or abstain, read from a YAML file or from the functions of a Python file.

A Python file is executed with the user's rights, and only if the user names it.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import yaml
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from refsynth.core.errors import ConfigError, nearest
from refsynth.core.sections import Name, Section
from refsynth.core.tree import QUOTES, complaints
from refsynth.core.words import UNSPACED_CLASS, unspaced
from refsynth.core.yamlfile import place_of, read_yaml
from refsynth.data.text import normalize

_SPACED = rf"[^\W{UNSPACED_CLASS}]"  # a letter of a script with spaces between words
_HANGUL = re.compile("[\uac00-\ud7af]")


class RuleConfig(Section):
    """One rule: a text has the label if it contains one of the words, or matches the pattern."""

    label: Name
    """The label of matching texts."""
    words: tuple[Name, ...] = ()
    """Whole words or phrases in any case. In scripts without spaces, any part of the text; in Korean, beginnings of words."""
    pattern: str | None = None
    """A Python regular expression, found anywhere in the text, in any case."""
    name: str = ""
    """Its name in tables; by default the label and a number."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if bool(self.words) == bool(self.pattern):
            raise ValueError("a rule needs either words or a pattern")
        try:
            re.compile(self.pattern or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return self


Balance = dict[Name, Annotated[float, Field(gt=0)]]
BALANCE: TypeAdapter[Balance] = TypeAdapter(Balance)


class RulesConfig(Section):
    """A file of rules."""

    rules: Annotated[tuple[RuleConfig, ...], Field(min_length=1)]
    """The rules, in any order."""
    balance: Balance = Field(default={})
    """Relative frequency of each label among all texts; equal if left out."""


class LabelRule(NamedTuple):
    """A named function from a text to a label, or to None if it abstains."""

    name: str
    judge: Callable[[str], str | None]


class Rules(NamedTuple):
    """Rules and the relative frequency of each label, if known."""

    rules: tuple[LabelRule, ...]
    balance: Mapping[str, float]


def read_rules(path: Path) -> Rules:
    """Read rules from a YAML file, or execute a Python file and take its functions.

    Raises:
        ConfigError: the file is missing, cannot be read or executed, or has an invalid rule.
    """
    if path.suffix.lower() == ".py":
        return _run(path)
    try:
        config = RulesConfig.model_validate(read_yaml(path))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})", expected="a YAML or Python file of rules") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(place_of(error, path), expected="rules: [{label: ..., words: [...]}, ...]") from error
    except ValidationError as error:
        lines = dict.fromkeys(_problem(problem) for problem in complaints(error))
        raise ConfigError(f"{path}: " + "\n  ".join(lines), expected="rules: [{label: ..., words: [...]}, ...]") from error
    labels = [rule.label for rule in config.rules]
    for label in config.balance:
        if label not in labels:
            raise ConfigError(f"{path}: balance: no rule has the label '{label}'", remedy=nearest(label, labels))
    if config.balance and (missing := set(labels) - set(config.balance)):
        raise ConfigError(f"{path}: balance: nothing for {', '.join(sorted(missing))}", expected="all labels or none")
    names = [rule.name or f"{rule.label} {number}" for number, rule in enumerate(config.rules, 1)]
    return Rules(tuple(LabelRule(name, _judge(rule)) for name, rule in zip(names, config.rules, strict=True)), config.balance)


def _problem(problem: Any) -> str:
    where = ".".join(str(part + 1) if isinstance(part, int) else str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = RuleConfig.model_fields if len(problem["loc"]) > 1 else RulesConfig.model_fields
        return f"unknown key '{where}'; known there: {', '.join(known)}"
    return f"{where or 'the file'}: {problem['msg']}{QUOTES * isinstance(problem.get('input'), bool)}"


def _judge(rule: RuleConfig) -> Callable[[str], str | None]:
    if rule.pattern is not None:
        pattern = re.compile(rule.pattern, re.IGNORECASE)
        return lambda text: rule.label if pattern.search(text) else None
    words = re.compile("|".join(_whole(normalize(word)) for word in rule.words))
    return lambda text: rule.label if words.search(normalize(text)) else None


def _whole(word: str) -> str:
    """Return a pattern for a whole word, in scripts with spaces between words.

    A Korean word may continue: particles are attached to it.
    """
    before = "" if unspaced(word[0]) else f"(?<!{_SPACED})"
    after = "" if unspaced(word[-1]) or _HANGUL.match(word[-1]) else f"(?!{_SPACED})"
    return f"{before}{re.escape(word)}{after}"


def _run(path: Path) -> Rules:
    """Execute a Python file and return its own public functions, and its `balance`."""
    spec = importlib.util.spec_from_file_location("refsynth_rules", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ConfigError(f"{path}: no such file", expected="a Python file with functions from a text to a label or None")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigError(f"{path}: does not run: {type(error).__name__}: {error}") from error
    rules = [
        LabelRule(name, function)
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == spec.name and not name.startswith("_")
    ]
    if not rules:
        raise ConfigError(f"{path}: has no functions", expected="functions from a text to a label or None: def late(text): ...")
    try:
        return Rules(tuple(rules), BALANCE.validate_python(vars(module).get("balance", {}), strict=True))
    except ValidationError as error:
        lines = dict.fromkeys(_problem(problem) for problem in error.errors())
        raise ConfigError(f"{path}: balance: " + "\n  ".join(lines), expected='balance = {"late": 0.7, "broken": 0.3}') from error
