"""The version, in a module that every layer may import: `refsynth` itself is a layer above."""

__version__ = "0.1.0"
