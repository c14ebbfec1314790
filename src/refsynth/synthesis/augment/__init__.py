"""Changed copies of real rows that keep the label: back-translation, synonyms, noise.

Each method is an `Augmenter` (core.protocols). Nothing is downloaded: a translator or a dictionary is installed, or the error
names the command that installs it. The copies join the drafts and are screened, selected and gated like them.
"""

from refsynth.synthesis.augment.apertium import ApertiumTranslator
from refsynth.synthesis.augment.backtranslate import BackTranslator
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
    "WordNet",
    "augment_rows",
    "find_wordnet",
]
