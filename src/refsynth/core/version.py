"""The version, where every layer may read it: importing `refsynth` itself would lead back up."""

__version__ = "0.1.0"
