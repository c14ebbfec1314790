"""The page at `/docs`: all routes with their bodies, replies and errors, rendered from the OpenAPI description.

It is one file without scripts and loads nothing from other sites, so it works without a network and prints well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import FastAPI, Request, Response

from refsynth.service.http.console import policy

_DEFAULT_ADDRESS = "http://127.0.0.1:8080"
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem; color-scheme: light dark; }
h2 { font: 600 1.05rem ui-monospace, monospace; border-top: 1px solid; padding-top: 1rem; margin-top: 2rem; }
h3 { font-size: .85rem; margin: 1rem 0 .2rem; }
pre { border: 1px solid; border-radius: .3rem; padding: .6rem; white-space: pre-wrap; overflow-wrap: anywhere; margin: .3rem 0; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .15rem .8rem .15rem 0; }
@media print { body { max-width: none; margin: 0; } h2 { break-after: avoid; } pre, tr { break-inside: avoid; } }
"""


def add_manual(api: FastAPI, *, keyed: bool) -> None:
    """Add the page. It describes the routes that were added before."""
    page = render(api.openapi(), keyed=keyed)
    headers = policy(page.encode())

    @api.get("/docs", include_in_schema=False)
    async def manual(request: Request) -> Response:
        """Show the page. Its examples use the address that the client called."""
        address = escape(str(request.base_url).rstrip("/"))
        return Response(page.replace(_DEFAULT_ADDRESS, address), media_type="text/html", headers=headers)


def render(openapi: Mapping[str, Any], *, keyed: bool) -> str:
    """Return an OpenAPI description as one HTML page; `keyed` tells whether the routes require keys."""
    schemas = openapi["components"]["schemas"]
    title = escape(f"{openapi['info']['title']} {openapi['info']['version']}")
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f'<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,"><style>{_STYLE}</style></head><body>',
        f"<h1>{title}</h1><p>{escape(openapi['info']['description'])} For programs: <code>/openapi.json</code>.</p>",
    ]
    if keyed:
        parts.append("<p>All routes except those below <code>/health</code> need <code>Authorization: Bearer KEY</code>.</p>")
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            parts += _operation(method.upper(), path, operation, schemas, keyed=keyed)
    return "\n".join([*parts, "</body></html>", ""])


def _operation(method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any], *, keyed: bool) -> Iterator[str]:
    yield f"<h2>{method} {escape(path)}</h2><p>{escape(operation.get('description', ''))}</p>"
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        yield f"<h3>Body</h3><p>{escape(schema.get('description', ''))}</p>{_fields(schema)}"
        body = json.dumps(schema["example"])
        key = "-H 'Authorization: Bearer KEY' " if keyed else ""
        yield f"<pre>curl {key}-H 'Content-Type: application/json' -d '{escape(body)}' {_DEFAULT_ADDRESS}{escape(path)}</pre>"
    reply = operation["responses"]["200"]["content"]["application/json"]["schema"]
    reply = schemas.get(str(reply.get("$ref", "")).rpartition("/")[2], {})
    if "example" in reply:
        yield f"<h3>Reply</h3><pre>{escape(json.dumps(reply['example'], indent=1))}</pre>"
    yield "<h3>Statuses</h3><table>"
    for status, response in sorted(operation["responses"].items()):
        yield f"<tr><th>{escape(status)}</th><td>{escape('The reply' if status == '200' else response['description'])}</td></tr>"
    yield "</table>"


def _fields(schema: Mapping[str, Any]) -> str:
    """Return the fields of a body as a table."""
    rows = []
    for name, field in schema["properties"].items():
        types = " or ".join(filter(None, (option.get("type") for option in field.get("anyOf", [field]))))
        default = "" if name in schema.get("required", ()) else f"; {json.dumps(field.get('default'))} if left out"
        description = escape(field.get("description", ""))
        rows.append(f"<tr><th>{escape(name)}</th><td>{escape(types + default)}</td><td>{description}</td></tr>")
    return f"<table>{''.join(rows)}</table>"
