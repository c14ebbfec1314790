"""What every other layer shares: value types, protocols, configuration, errors, the run folder. Knows nothing of models."""
