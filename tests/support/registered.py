"""Components that are registered for one test."""


def register(monkeypatch, registry, *specs):
    """Register specs as a user of a notebook does; the end of the test undoes it."""
    monkeypatch.setattr(registry, "_own", dict(registry._own))
    for spec in specs:
        registry.register(spec)
