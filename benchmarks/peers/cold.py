"""A contestant that is a command: each batch is one process of it, from its start to its end."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from worker import LeaveError, Ready, serve, timed


def set_up(settings: dict[str, Any]) -> Ready:
    """The command prints JSON whose first `probability` is that of its first answer, whose `index` stands beside."""
    command = settings["command"]

    def step() -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise LeaveError(f"{command[0]} ended with {done.returncode}: {last[:300]}")
        return done.stdout

    first = _first(json.loads(step()))
    return Ready(timed(step), {"answers": [[first["index"], first["probability"]]]})


def _first(answer: Any) -> dict[str, float]:
    while "probability" not in answer:
        answer = answer["predictions"] if "predictions" in answer else answer[0]
    return dict(answer)


if __name__ == "__main__":
    serve(set_up)
