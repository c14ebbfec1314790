"""The console page at `/`: try a text, see live metrics and recent feedback. It is one file and loads nothing from other sites.

The page itself holds no data. It calls the other routes, with the key that the user types into it. Its Content-Security-Policy
allows only its own script and style, by their hashes, and lets them connect only to this server.
"""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import FastAPI, Response

_SCRIPT, _STYLE = (re.compile(rb"<%s>(.*?)</%s>" % (tag, tag), re.DOTALL) for tag in (b"script", b"style"))


def add_console(api: FastAPI) -> None:
    """Add the page."""
    page = (files("refsynth.service.http") / "console.html").read_bytes()
    headers = policy(page)

    @api.get("/", include_in_schema=False)
    async def console() -> Response:
        """Show the console."""
        return Response(page, media_type="text/html", headers=headers)


def policy(page: bytes) -> dict[str, str]:
    """Return the headers of a page that runs only its own script and style, and connects only to this server."""
    return {
        "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"frame-ancestors 'none'; script-src {_hashes(_SCRIPT, page)}; style-src {_hashes(_STYLE, page)}",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }


def _hashes(tag: re.Pattern[bytes], page: bytes) -> str:
    """Return the policy's sources that allow the inline contents of a tag."""
    digests = (hashlib.sha256(content).digest() for content in tag.findall(page))
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests) or "'none'"
