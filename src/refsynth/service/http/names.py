"""Find names of persons with Presidio and an installed spaCy pipeline. Nothing is downloaded.

Results are as good as the pipeline: no pattern or checksum can verify a name.
"""

from __future__ import annotations

from collections.abc import Iterator

from refsynth.core.errors import InputError
from refsynth.core.extras import require

ENTITY = "PERSON"


class NameFinder:
    """Finds names of persons.

    Args:
        pipeline: name or folder of an installed spaCy pipeline with an entity recognizer.

    Raises:
        ExtraError: the extra `names` is not installed.
        InputError: there is no such pipeline, or it recognizes no entities.
    """

    def __init__(self, pipeline: str) -> None:
        spacy, presidio = require("spacy", extra="names"), require("presidio_analyzer", extra="names")
        try:
            nlp = spacy.load(pipeline)
        except OSError as error:
            raise InputError(
                f"no spaCy pipeline '{pipeline}' on this machine",
                expected="the name or folder of an installed pipeline",
                remedy="python -m spacy download en_core_web_sm",
            ) from error
        if not {"ner", "entity_ruler"} & set(nlp.pipe_names):
            raise InputError(
                f"the spaCy pipeline '{pipeline}' recognizes no names: its parts are {', '.join(nlp.pipe_names) or 'none'}",
                expected="a pipeline with the part 'ner'",
            )
        self._language = nlp.lang
        engine = require("presidio_analyzer.nlp_engine", extra="names").SpacyNlpEngine()
        engine.nlp = {nlp.lang: nlp}  # given only a name, Presidio would download a missing pipeline
        recognizer = require("presidio_analyzer.predefined_recognizers", extra="names").SpacyRecognizer(
            supported_language=nlp.lang, supported_entities=[ENTITY]
        )
        registry = presidio.RecognizerRegistry(recognizers=[recognizer], supported_languages=[nlp.lang])
        self._analyzer = presidio.AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[nlp.lang])

    def __call__(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the spans of names in a text."""
        for result in self._analyzer.analyze(text, language=self._language, entities=[ENTITY]):
            yield result.start, result.end
