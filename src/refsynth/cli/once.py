"""Commands that refuse an option given twice, unless it takes any number: of two values one would be lost without a word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption
from typer.models import CommandFunctionType

_TEXTS = ("text", "text_column")


class _Once(TyperCommand):
    """A command whose options are given once."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for option, count in Counter(order).items():
            if count > 1 and isinstance(option, TyperOption) and not option.multiple and not option.is_flag:
                remedy = '. Several columns are one text: "Subject + Message"' if option.name in _TEXTS else ""
                raise typer.BadParameter(f"given {count} times{remedy}", ctx=ctx, param=option)
        return super().parse_args(ctx, args)


class Commands(typer.Typer):
    """A group of such commands."""

    def command(self, name: str | None = None, **named: Any) -> Callable[[CommandFunctionType], CommandFunctionType]:
        """Add a command, as `typer.Typer.command` does."""
        return super().command(name, **{"cls": _Once} | named)
