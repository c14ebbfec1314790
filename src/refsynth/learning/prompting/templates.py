"""Prompt templates for a text and a label. They are data in `templates.yaml`; users can name a file of their own."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import yaml
from pydantic import AfterValidator, RootModel, ValidationError

from refsynth.core.errors import ConfigError
from refsynth.core.sections import Section
from refsynth.core.yamlfile import parse_yaml, place_of

Method = Literal["direct", "channel"]
"""What is scored: P(label | text), or P(text | label) (Min et al., 2022, "Noisy Channel Language Model Prompting")."""
TEXT, LABEL = "{text}", "{label}"
FALLBACK = "en"


class TemplateForm(NamedTuple):
    """A template for one method: the part before the scored text, its placeholder for the condition, and the spaces after it."""

    head: str
    placeholder: str
    gap: str

    def ask(self, condition: str) -> str:
        """Return the prompt with the condition in place of the placeholder."""
        return self.head.replace(self.placeholder, condition)


def _check_order(first: str, second: str) -> AfterValidator:
    def check(text: str) -> str:
        if text.count(first) != 1 or text.count(second) != 1 or not text.endswith(second):
            raise ValueError(f"expected {first} once, then {second} once, at the end")
        return text

    return AfterValidator(check)


class Template(Section):
    """A prompt template in one language."""

    name: str
    """Its name in reports."""
    direct: Annotated[str, _check_order(TEXT, LABEL)]
    """The text, then the label."""
    channel: Annotated[str, _check_order(LABEL, TEXT)]
    """The label, then the text."""

    def form(self, method: Method) -> TemplateForm:
        """Return the template for a method."""
        whole, target, condition = (self.direct, LABEL, TEXT) if method == "direct" else (self.channel, TEXT, LABEL)
        before = whole.removesuffix(target)
        head = before.rstrip(" ")  # a space belongs to the token after it
        return TemplateForm(head, condition, before[len(head) :])

    def example(self, method: Method, text: str, label: str) -> str:
        """Return the template with a text and its label, for the examples of a prompt."""
        form, (condition, target) = self.form(method), (text, label) if method == "direct" else (label, text)
        return form.ask(condition) + form.gap + target


class _Templates(RootModel[dict[str, tuple[Template, ...]]]):
    """A file of templates, by language."""


def read_templates(path: Path | None = None) -> dict[str, tuple[Template, ...]]:
    """Return templates by ISO 639-1 code: those of a YAML file, or those that come with the package.

    Raises:
        ConfigError: the file cannot be read, or is not a file of templates.
    """
    name, form = str(path or "templates.yaml"), "en: [{name: ..., direct: ..., channel: ...}]"
    try:
        content = path.read_text("utf-8") if path else (resources.files(__package__) / "templates.yaml").read_text("utf-8")
        return _Templates.model_validate(parse_yaml(content)).root
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read ({error.strerror})", expected="a YAML file of templates") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(place_of(error, Path(name)), expected=form) from error
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or "the file"
        raise ConfigError(f"{name}: {where}: {problem['msg']}", expected=form) from error


def templates_for(language: str, path: Path | None = None) -> tuple[Template, ...]:
    """Return the templates of a language, or the English ones if it has none.

    Raises:
        ConfigError: the file cannot be used, or has neither.
    """
    by_language = read_templates(path)
    if templates := by_language.get(language) or by_language.get(FALLBACK):
        return templates
    raise ConfigError(f"{path}: no templates for '{language}'", expected=f"one for {language} or {FALLBACK}")
