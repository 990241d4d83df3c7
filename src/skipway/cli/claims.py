"""Re-run the experiments that made the networks famous."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from skipway.cli.output import Device, Json, answer, tell
from skipway.errors import SkipwayError

commands = typer.Typer()


@commands.command()
def reproduce(
    claim: Annotated[str, typer.Argument(help="A claim of --list, or all.")] = "",
    list_: Annotated[bool, typer.Option("--list", help="Tell every claim and its source.")] = False,
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
    """Re-run a classic experiment and say whether its claim holds here."""
    from skipway.claims.names import NAMES, require_name

    if list_:
        _tell_all(json_)
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
    from skipway.claims.reproduce import reproduce as run
    from skipway.claims.running import Where
    from skipway.training.console import Console

    settings = Settings(budget="full" if budget == "full" else "quick", seeds=seeds, seed=seed, epochs=epochs)
    where = Where(Path(out), data, device, processes)
    done, failed = [], []
    for name in NAMES if claim == "all" else (claim,):
        try:
            with Console() as console:
                done.append(run(name, settings, where, console))
        except SkipwayError as error:
            if claim != "all":
                raise
            failed.append(f"{name}: {error}")  # the others need not suffer for it
            continue
        if not json_:
            tell(done[-1].describe() + "\n")
    if json_:
        answer([one.to_dict() for one in done] if claim == "all" else done[0].to_dict())
    if failed:
        raise SkipwayError(f"{len(failed)} of {len(NAMES)} claims did not run; {'; '.join(failed)}")


def _tell_all(json_: bool) -> None:
    from skipway.claims.catalog import all_claims

    rows = [{"claim": one.name, "sentence": one.sentence, "source": one.source} for one in all_claims()]
    lines = [f"{row['claim']:20} {row['sentence']}\n{'':20} {row['source']}" for row in rows]
    answer(rows) if json_ else tell("\n".join(lines))
