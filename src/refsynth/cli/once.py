"""Commands that refuse an option given twice unless it may be repeated: otherwise one of the values would be lost silently."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption
from typer.models import CommandFunctionType

_TEXTS = ("text", "text_column")


class _Once(TyperCommand):
    """A command that refuses an option given twice."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for option, count in Counter(order).items():
            if count > 1 and isinstance(option, TyperOption) and not option.multiple and not option.is_flag:
                remedy = '. Several columns are one text: "Subject + Message"' if option.name in _TEXTS else ""
                raise typer.BadParameter(f"given {count} times{remedy}", ctx=ctx, param=option)
        return super().parse_args(ctx, args)


class Commands(typer.Typer):
    """A group of commands that refuse an option given twice. A line break in a docstring is not one in the help."""

    def command(self, name: str | None = None, **options: Any) -> Callable[[CommandFunctionType], CommandFunctionType]:
        """Add a command, as `typer.Typer.command` does."""

        def add(function: CommandFunctionType) -> CommandFunctionType:
            paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
            text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
            settings: dict[str, Any] = {"cls": _Once, "help": text} | options
            return typer.Typer.command(self, name, **settings)(function)

        return add
