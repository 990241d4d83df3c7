"""Re-run the experiments that made the networks famous."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skipway.cli.help import CLAIMS
from skipway.cli.output import Device, Json, print_json, print_text
from skipway.errors import SkipwayError
from skipway.reporting import table

commands = typer.Typer()


@commands.command(rich_help_panel=CLAIMS)
def reproduce(
    claim: Annotated[str, typer.Argument(help="A claim of --list, or all.")] = "",
    list_: Annotated[bool, typer.Option("--list", help="List every claim with its source.")] = False,
    budget: Annotated[str, typer.Option(help="quick (under 20 minutes on 2 cores) or full (the paper's).")] = "quick",
    data: Annotated[str, typer.Option(help="Folder of cifar10/, mnist/ and signs/; left out, they are fetched.")] = "",
    seeds: Annotated[int, typer.Option(help="Runs of each network; 0 is the claim's own number.")] = 0,
    seed: Annotated[int, typer.Option(help="The first seed. Same seeds, same result.")] = 0,
    epochs: Annotated[int, typer.Option(help="Of each run; 0 is the claim's own number.")] = 0,
    processes: Annotated[int, typer.Option(help="Runs at once; 0 is one a core, or one on a GPU.")] = 0,
    device: Device = "auto",
    out: Annotated[str, typer.Option(help="Folder for a folder a claim.")] = "claims",
    json_: Json = False,
) -> None:
    """Re-run a classic experiment: does its claim hold here?"""
    from skipway.claims.names import NAMES, require_name

    if list_:
        _print_list(as_json=json_)
        return
    if not claim:
        raise SkipwayError(f"no claim was named; give one of {', '.join(NAMES)}, or all")
    if claim != "all":
        require_name(claim)
    if budget not in ("quick", "full"):
        raise SkipwayError(f"--budget is {budget}; give quick or full")
    if min(seeds, seed, epochs, processes) < 0:
        raise SkipwayError("--seeds, --seed, --epochs and --processes are counts; give 0 or more")

    from skipway.claims.claim import Settings
    from skipway.claims.reproduce import reproduce as run_claim
    from skipway.claims.running import Where
    from skipway.training.console import Console

    settings = Settings(budget="full" if budget == "full" else "quick", seeds=seeds, seed=seed, epochs=epochs)
    where = Where(Path(out), data, device, processes)
    every = claim == "all"
    done = []
    failed = []
    for name in NAMES if every else (claim,):
        try:
            with Console() as console:
                reproduction = run_claim(name, settings, where, console)
        except SkipwayError as error:
            if not every:
                raise
            failed.append(f"{name}: {error}")  # the claims after it run all the same
            continue
        done.append(reproduction)
        if not json_:
            print_text(reproduction.describe() + "\n")
    if json_:
        results = [reproduction.to_dict() for reproduction in done]
        print_json(results if every else results[0])
    if failed:
        raise SkipwayError(f"{len(failed)} of {len(NAMES)} claims did not run; {'; '.join(failed)}")


def _print_list(*, as_json: bool) -> None:
    """Print every claim: its name, its sentence, and below it the source."""
    from skipway.claims.catalog import all_claims

    claims = all_claims()
    if as_json:
        print_json([{"claim": claim.name, "sentence": claim.sentence, "source": claim.source} for claim in claims])
        return
    rows = []
    for claim in claims:
        rows.append((claim.name, claim.sentence))
        rows.append(("", claim.source))
    print_text(table((), rows))
