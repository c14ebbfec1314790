"""The references, which generate and score texts (`core.protocols.Generator`). Heavy libraries are imported late."""

from refsynth.models.reference.client import BudgetError
from refsynth.models.reference.echo import EchoGenerator
from refsynth.models.reference.embedded import EmbeddedGenerator
from refsynth.models.reference.endpoint import EndpointGenerator, PartialAnswerError
from refsynth.models.reference.folder import FolderGenerator, weights_digest
from refsynth.models.reference.remembered import RememberedScores

__all__ = [
    "BudgetError",
    "EchoGenerator",
    "EmbeddedGenerator",
    "EndpointGenerator",
    "FolderGenerator",
    "PartialAnswerError",
    "RememberedScores",
    "weights_digest",
]
