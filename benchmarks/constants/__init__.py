"""Scripts that choose constants on data sets that no table is about: `python -m benchmarks.constants.NAME`."""
