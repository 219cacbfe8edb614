"""List the shipped recipes, or print one."""

from maskris.cli.common import say, show


def recipes(name: str | None = None) -> None:
    """List the shipped recipes, or print one in full.

    A recipe of your own begins with `maskris recipes NAME > mine.yaml`, or names what differs from another one:
    base: NAME.

    Args:
        name: The recipe to print.
    """
    from rich.console import Console
    from rich.syntax import Syntax

    from maskris.experiments.recipe import find, full_text, shipped
    from maskris.reporting.tables import Table

    if name is None:
        lines = ((recipe, find(recipe).read_text(encoding="utf-8").splitlines()[0]) for recipe in shipped())
        show(Table(["recipe", "what it is"], [(recipe, line.removeprefix("# ")) for recipe, line in lines]))
        say("Train by one: maskris train RECIPE --data FILE.parquet")
    elif (text := full_text(name).rstrip("\n")) and Console().is_terminal:
        Console().print(Syntax(text, "yaml", background_color="default", word_wrap=True))
    else:  # rich would fill the lines with blanks and cut the long ones
        say(text)
