"""References by name: the language models that may write drafts, what each needs and can do. All else derives from this table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator

from refsynth.core.drafting import EndpointReference, FolderReference
from refsynth.core.registry import Registry
from refsynth.core.sections import Section


@dataclass(frozen=True)
class ReferenceSpec:
    """A reference.

    Attributes:
        name: in task.yaml, under `reference`; if it has a section, the key that identifies the section.
        make: the function that makes its generator, as `module:function`, from a `models.reference.context.ReferenceContext`.
            It is imported when it is first used.
        doc: what it is, for the documents.
        section: the class that configures it, if a name is not enough.
        languages: that it writes and reads, as ISO 639-1 codes; empty for any.
        scores: whether it can score how likely a text is. For a server the run finds this out at its start.
        training: how its weights are trained, as `module:NAME` of a `models.reference.context.Training`; empty if they are not
            here.
        check: the function that checks, before the first request, that it can do what a run needs, as `module:function`.
        content: the function from its section to a hash of what decides its answers beyond the configuration, as
            `module:function`.
        reached: keys of its section that say how it is reached, and change none of its answers.
        limits: keys of its section at which drafting stops with the drafts so far, and anything else fails.
        extras: of this package that it needs.
        models: of the store that it needs to write.
        weights: models of the store that it needs to be trained.
        network: whether it is reached over the network. One generator then serves a whole run, since it counts its requests.
    """

    name: str
    make: str
    doc: str
    section: type[Section] | None = None
    languages: tuple[str, ...] = ()
    scores: bool = True
    training: str = ""
    check: str = ""
    content: str = ""
    reached: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    network: bool = False

    @property
    def written(self) -> str:
        """Its form in task.yaml."""
        return f"{{{self.name}: ...}}" if self.section else self.name

    def writes(self, language: str) -> bool:
        """Return whether it writes a language, and so can score how likely a text in it is."""
        return not self.languages or language in self.languages


_MAKERS = "refsynth.models.reference.makers"

REFERENCES: Registry[ReferenceSpec] = Registry(
    "refsynth.references",
    ReferenceSpec,
    (
        ReferenceSpec(
            "embedded",
            f"{_MAKERS}:embedded",
            "SmolLM2-135M-Instruct in this process, in int8",
            languages=("en",),
            training=f"{_MAKERS}:EMBEDDED",
            extras=("train",),
            models=("smollm2",),
            weights=("smollm2-torch",),
        ),
        ReferenceSpec("echo", f"{_MAKERS}:echo", "no model: it shuffles the words that it is shown, to try a task in seconds"),
        ReferenceSpec(
            "endpoint",
            f"{_MAKERS}:endpoint",
            "a model behind an OpenAI-compatible server",
            section=EndpointReference,
            check="refsynth.models.reference.server:check_server",
            reached=("key_env", "concurrency", "timeout", "retries"),
            limits=("max_requests",),
            extras=("train",),
            network=True,
        ),
        ReferenceSpec(
            "folder",
            f"{_MAKERS}:folder",
            "a causal language model in a local Hugging Face folder",
            section=FolderReference,
            training=f"{_MAKERS}:FOLDER",
            content=f"{_MAKERS}:weights_in",
            reached=("folder",),  # what is in it decides
            extras=("train",),
        ),
    ),
)


def _named(name: Any) -> str:
    """Return the name of a reference without a section. The message for any other does not repeat it, since it may be a key."""
    if not isinstance(name, str) or name not in REFERENCES:
        raise ValueError(REFERENCES.unknown(str(name), "something else"))
    if REFERENCES[name].section:
        raise ValueError(f"'{name}' needs more than its name; write {REFERENCES[name].written}")
    return name


Reference = Annotated[str, BeforeValidator(_named)] | EndpointReference | FolderReference


def spec_of(reference: str | Section) -> ReferenceSpec:
    """Return the spec of the value under `reference` in a configuration."""
    if isinstance(reference, str):
        return REFERENCES[reference]
    return next(spec for spec in REFERENCES.values() if spec.section is type(reference))


def settings_of_reference(reference: str | Section, tree: Any) -> Any:
    """Return the part of the tree under `reference` that decides its answers, as JSON values."""
    reached = spec_of(reference).reached
    return {key: value for key, value in tree.items() if key not in reached} if isinstance(tree, Mapping) else tree
