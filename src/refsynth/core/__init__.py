"""What every other package shares: values, protocols, the configuration, errors, the run folder and its steps, intervals.

Knows nothing of models, and of files only how a run keeps its own. Nothing here prints.
"""
