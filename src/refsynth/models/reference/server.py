"""The server that writes the drafts, where the reference is one: how it is reached, and what it can do before it is paid."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from refsynth.core.drafting import EndpointReference
from refsynth.core.observe import Observer
from refsynth.core.run import read_json, write_json
from refsynth.models.reference.client import JsonClient, RequestBudget
from refsynth.models.reference.endpoint import EndpointGenerator
from refsynth.models.reference.probe import Api, ServerAbilities, probe
from refsynth.models.reference.scoring import cannot_score

APIS: Mapping[str, tuple[Api, ...]] = {"auto": ("chat", "completions"), "chat": ("chat",), "completions": ("completions",)}
"""The ways to ask a server that are tried, in turn."""

PROBED = "endpoint.json"
"""The file in a run's folder of what its server can do: a run that goes on does not ask again."""


def make_endpoint(
    server: EndpointReference, found: ServerAbilities, *, temperature: float, top_p: float, max_tokens: int
) -> EndpointGenerator:
    """Return the reference behind a server.

    Raises:
        EndpointError: the key cannot be sent.
    """
    return EndpointGenerator(
        server.endpoint,
        model=server.model,
        api=found.api,
        key=os.environ.get(server.key_env),
        key_env=server.key_env,
        concurrency=server.concurrency,
        timeout=server.timeout,
        retries=server.retries,
        max_requests=server.max_requests,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
    )


def probe_server(server: EndpointReference) -> ServerAbilities:
    """Return what a server can do; a few requests, which do not count as the run's.

    Raises:
        EndpointError: it does not answer, refuses the key, or does not have the model.
    """
    return probe(_client(server), server.model, APIS[server.api])


def _client(server: EndpointReference) -> JsonClient:
    return JsonClient(
        server.endpoint,
        key=os.environ.get(server.key_env),
        timeout=server.timeout,
        retries=server.retries,
        budget=RequestBudget(None),
        key_env=server.key_env,
    )


def probed(server: EndpointReference, folder: Path) -> ServerAbilities:
    """Return what a server can do, as it was found out in this run's folder or is now.

    Raises:
        EndpointError: see `probe_server`.
    """
    asked = {"endpoint": server.endpoint, "model": server.model, "api": server.api}
    try:
        record = read_json(folder / PROBED)
        if record["asked"] == asked:
            return ServerAbilities(**record["found"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not asked yet, or not by this version
    found = probe_server(server)
    write_json(folder / PROBED, {"asked": asked, "found": found._asdict()})
    return found


def check_server(server: EndpointReference, folder: Path, watch: Observer, *, scores: bool) -> None:
    """See that the server can do what a run will ask of it, before the first request that is paid for, and say how it is asked.

    Args:
        server: which it is.
        folder: of the run, which remembers what was found out.
        watch: is told.
        scores: whether it will be asked how likely texts are.

    Raises:
        EndpointError: it cannot, or see `probe_server`.
    """
    new = not (folder / PROBED).exists()
    found = probed(server, folder)
    host = _client(server).host
    if scores and not found.scores:
        raise cannot_score(host)
    if new:
        watch.stage("reference", found.line(host, server.model))
