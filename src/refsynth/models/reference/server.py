"""The server behind an endpoint reference: its generator, and a check of its abilities before a run sends paid requests."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from refsynth.core.drafting import EndpointReference
from refsynth.core.files import read_json, write_json
from refsynth.core.observe import Observer
from refsynth.models.reference.client import JsonClient, RequestBudget
from refsynth.models.reference.endpoint import EndpointGenerator
from refsynth.models.reference.probe import Api, ServerAbilities, probe
from refsynth.models.reference.reply import cannot_score

APIS: Mapping[str, tuple[Api, ...]] = {"auto": ("chat", "completions"), "chat": ("chat",), "completions": ("completions",)}
"""The APIs to try, in order."""

PROBED = "endpoint.json"
"""The file with a server's abilities in a run's folder, so that a resumed run does not probe again."""


def make_endpoint(
    server: EndpointReference, abilities: ServerAbilities, *, temperature: float, top_p: float, max_tokens: int
) -> EndpointGenerator:
    """Return the generator behind a server.

    Raises:
        EndpointError: the key cannot be sent.
    """
    return EndpointGenerator(
        server.endpoint,
        model=server.model,
        api=abilities.api,
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
    """Return the abilities of a server, by a few requests that do not count towards the run's budget.

    Raises:
        EndpointError: the server does not answer, refuses the key, or does not have the model.
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
    """Return the abilities of a server from the run's folder, or by probing it.

    Raises:
        EndpointError: see `probe_server`.
    """
    identity = {"endpoint": server.endpoint, "model": server.model, "api": server.api}
    try:
        record = read_json(folder / PROBED)
        if record["asked"] == identity:
            return ServerAbilities(**record["found"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no file yet, or one of another version
    abilities = probe_server(server)
    write_json(folder / PROBED, {"asked": identity, "found": abilities._asdict()})
    return abilities


def check_server(server: EndpointReference, folder: Path, watch: Observer, *, scores: bool) -> None:
    """Check before the first paid request that a server can do what the run needs, and report its API.

    `scores` is whether the run needs scores of texts. The run's folder keeps the result.

    Raises:
        EndpointError: the server cannot score texts, or see `probe_server`.
    """
    new = not (folder / PROBED).exists()
    abilities = probed(server, folder)
    host = _client(server).host
    if scores and not abilities.scores:
        raise cannot_score(host)
    if new:
        watch.stage("reference", abilities.line(host, server.model))
