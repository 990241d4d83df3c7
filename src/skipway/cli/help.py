"""The list of commands in `skipway --help`, in groups by what a person wants to do."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

# Each command names one of these as its `rich_help_panel`. Typer shows the groups with rich, and with nothing else.
PICTURES = "Your pictures"
NETWORKS = "Networks"
WEIGHTS = "Weights of other frameworks"
CLAIMS = "Claims"
MACHINE = "This machine"
PANELS = (PICTURES, NETWORKS, WEIGHTS, CLAIMS, MACHINE)


class GroupedCommands(TyperGroup):
    """A group of commands whose help lists them panel by panel, as plain text."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each panel, with a line for each of its commands.

        `ctx` and `formatter` are click's; which package defines their classes depends on typer's version.
        """
        names = self.list_commands(ctx)
        longest = max(len(name) for name in names)
        room = formatter.width - longest - 6  # as click counts it: margins and the space between the two columns
        for panel in PANELS:
            lines = []
            for name in names:
                command: Any = self.get_command(ctx, name)
                if command.rich_help_panel == panel:
                    help_text = command.get_short_help_str(room)
                    lines.append((name.ljust(longest), help_text))
            with formatter.section(panel):
                formatter.write_dl(lines)
