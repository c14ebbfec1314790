"""Names of persons in texts, by Presidio over a spaCy pipeline that is on this machine. Nothing is fetched.

What is found is as good as the pipeline: names are a matter of reading, and no pattern or checksum settles them.
"""

from __future__ import annotations

from collections.abc import Iterator

from refsynth.core.errors import InputError
from refsynth.core.extras import require

ENTITY = "PERSON"


class NameFinder:
    """Finds names of persons.

    Args:
        pipeline: name of an installed spaCy pipeline with an entity recogniser, or its folder.

    Raises:
        ExtraError: the extra `names` is not installed.
        InputError: there is no such pipeline, or it recognises no entities.
    """

    def __init__(self, pipeline: str) -> None:
        spacy, presidio = require("spacy", extra="names"), require("presidio_analyzer", extra="names")
        try:
            nlp = spacy.load(pipeline)
        except OSError as error:
            raise InputError(
                f"no spaCy pipeline '{pipeline}' on this machine",
                expected="the name of an installed one, or its folder",
                remedy="python -m spacy download en_core_web_sm",
            ) from error
        if not {"ner", "entity_ruler"} & set(nlp.pipe_names):
            raise InputError(
                f"the spaCy pipeline '{pipeline}' recognises no names: it has {', '.join(nlp.pipe_names) or 'no parts'}",
                expected="one with the part 'ner'",
            )
        self._language = nlp.lang
        engine = require("presidio_analyzer.nlp_engine", extra="names").SpacyNlpEngine()
        engine.nlp = {nlp.lang: nlp}  # as loaded: by name Presidio would download what is missing
        recognizer = require("presidio_analyzer.predefined_recognizers", extra="names").SpacyRecognizer(
            supported_language=nlp.lang, supported_entities=[ENTITY]
        )
        registry = presidio.RecognizerRegistry(recognizers=[recognizer], supported_languages=[nlp.lang])
        self._analyzer = presidio.AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[nlp.lang])

    def __call__(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the places of names in a text."""
        for found in self._analyzer.analyze(text, language=self._language, entities=[ENTITY]):
            yield found.start, found.end
