"""The server's settings, checked against each other before anything starts."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from refsynth.core.errors import ConfigError
from refsynth.service.http.origin import is_loopback


class Settings(BaseModel):
    """All settings. Times are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: Path
    host: str = "127.0.0.1"
    allow_host: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")], ...] = ()
    """Further host names by which a server without keys may be called."""
    port: int = Field(default=8080, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=64)
    threads: int = Field(default=0, ge=0, le=256)
    """Compute threads of each worker; 0 shares the cores among the workers."""
    state: Path | None = None
    """Folder for copies of the bundle, the control socket and the metrics; by default one named after the port."""

    deadline: float = Field(default=10.0, gt=0, le=600)
    """From a request's first byte to its answer."""
    queue_rows: int = Field(default=2048, ge=1)
    batch_rows: int = Field(default=64, ge=1, le=4096)
    batch_tokens: int = Field(default=1024, ge=1)
    requests: int = Field(default=1024, ge=1)
    """Requests that a worker may have under way at once."""
    key_requests: int = Field(default=256, ge=1)
    """How many of them may belong to one key."""

    body_bytes: int = Field(default=1 << 20, ge=1024)
    most_texts: int = Field(default=256, ge=1)
    """Texts per request; the option `--texts`."""
    characters: int = Field(default=20_000, ge=1)
    """Characters per text."""

    drain: float = Field(default=30.0, gt=0, le=86_400)
    """From the signal to the end of the last worker."""
    notice: float = Field(default=0.0, ge=0, le=86_400)
    """How long a draining worker reports `not ready` before it stops accepting connections."""
    hang: float = Field(default=4.0, ge=0.5, le=86_400)
    """A worker whose model has not answered the canary for this long is replaced."""
    start: float = Field(default=120.0, gt=0, le=86_400)
    """How long a worker may take to load its bundle."""
    log_requests: bool = True
    threshold: float | None = Field(default=None, ge=0, le=1)
    """The decision threshold: answers with a lower confidence are unsure. None is the bundle's own."""

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        if self.most_texts > self.queue_rows:
            raise ValueError(f"a request of {self.most_texts} texts never fits into a queue of {self.queue_rows} rows")
        if self.notice + self.deadline >= self.drain:
            raise ValueError(
                f"drain ({self.drain:g} s) must be longer than notice and deadline ({self.notice + self.deadline:g} s), "
                "or accepted requests are lost"
            )
        return self

    @classmethod
    def of(cls, **options: object) -> Self:
        """Build settings from options.

        Raises:
            ConfigError: an option is invalid, or two contradict each other.
        """
        try:
            return cls.model_validate(options)
        except ValidationError as error:
            raise refused_options(error) from error

    @property
    def threads_each(self) -> int:
        """Compute threads of one worker."""
        return self.threads or max(1, len(os.sched_getaffinity(0)) // self.workers)


def usual(name: str) -> Any:
    """Return the default of a setting."""
    return Settings.model_fields[name].default


OPTIONS: Mapping[str, str] = {"most_texts": "texts", "names": "redact_names"}
"""Fields whose option has another name."""


def refused_options(error: ValidationError) -> ConfigError:
    """Return an error with one line per invalid option."""
    lines = [f"{_option(problem['loc'])}: {problem['msg']}" for problem in error.errors()]
    return ConfigError("\n  ".join(lines), remedy="refsynth serve --help explains each option")


def _option(place: Sequence[int | str]) -> str:
    if not place:
        return "options"
    name = str(place[0])
    return "--" + OPTIONS.get(name, name).replace("_", "-")


def check_exposure(host: str, *, keyed: bool, open_: bool = False, allowed: Sequence[str] = ()) -> None:
    """Refuse to serve other machines without keys unless `--open` allows it.

    Raises:
        ConfigError: there are no keys, the address is not loopback, and `open_` is not set; or there are keys and an option
            that is only for servers without keys.
    """
    if keyed and (open_ or allowed):
        raise ConfigError(
            f"{'--open' if open_ else '--allow-host'}: only for a server without keys, but keys are set (--keys, $REFSYNTH_KEYS)",
            remedy="leave one of the two out",
        )
    if not (keyed or open_ or is_loopback(host)):
        raise ConfigError(
            f"--host {host}: other machines could use the server, and no keys are configured",
            expected="127.0.0.1, ::1 or localhost without keys",
            remedy="make keys (refsynth keys add NAME) and name their file with --keys, serve on loopback behind a proxy that "
            "checks callers, or let in everybody who reaches the port with --open",
        )
