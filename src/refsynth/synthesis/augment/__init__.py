"""Copies of real rows, changed so that the label stays: back-translation, synonyms, noise.

Each method is an `Augmenter` (core.protocols). Nothing is downloaded: a translator or a dictionary is either installed, or the
error names the line that installs it. What comes back joins the drafts and goes the same way: screened, selected, gated.
"""

from refsynth.synthesis.augment.apertium import ApertiumTranslator
from refsynth.synthesis.augment.backtranslate import BackTranslator, Translator
from refsynth.synthesis.augment.copies import Augmented, augment_rows
from refsynth.synthesis.augment.noise import NoiseAugmenter
from refsynth.synthesis.augment.seq2seq import Seq2SeqTranslator
from refsynth.synthesis.augment.synonyms import SynonymAugmenter
from refsynth.synthesis.augment.wordnet import WordNet, find_wordnet

__all__ = [
    "ApertiumTranslator",
    "Augmented",
    "BackTranslator",
    "NoiseAugmenter",
    "Seq2SeqTranslator",
    "SynonymAugmenter",
    "Translator",
    "WordNet",
    "augment_rows",
    "find_wordnet",
]
