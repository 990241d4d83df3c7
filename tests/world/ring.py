"""Rings of gloo ranks on this machine, started by hand as torchrun would start them.

Run as a program: `python -m tests.world.ring JOBS`, JOBS being JSON, a list of rings one after the other. Each is
`{"size", "log", "arguments", "kill": [rank, step]}`: the command line of skipway in forked ranks, so that torch is
imported once. The answer on stdout is JSON: for each ring how every rank ended, and after how many seconds. What rank r
printed is in `LOG.r`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def run_rings(jobs: list[dict[str, Any]], timeout: float = 240) -> list[dict[str, Any]]:
    """What `main` answers for these jobs, in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name not in {"RANK", "WORLD_SIZE"}}
    environment |= {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    environment["TORCH_CPP_LOG_LEVEL"] = "ERROR"  # as the command line sets it before it imports torch
    done = subprocess.run(
        [sys.executable, "-m", "tests.world.ring", json.dumps(jobs)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_ring(size: int, log: str, arguments: list[str], kill: list[int] | None = None) -> dict[str, Any]:
    """Start the ranks, wait for all of them. Statuses are exit codes, negative for signals."""
    began = time.monotonic()
    port = _free_port()
    pids = [_start(rank, size, port, log, arguments, kill) for rank in range(size)]
    statuses = [0] * size
    seconds = [0.0] * size
    for _ in pids:
        pid, status = os.wait()
        rank = pids.index(pid)
        statuses[rank] = os.waitstatus_to_exitcode(status)
        seconds[rank] = time.monotonic() - began
    return {"statuses": statuses, "seconds": seconds}


def _start(rank: int, size: int, port: int, log: str, arguments: list[str], kill: list[int] | None) -> int:
    pid = os.fork()
    if pid:
        return pid
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    printed = os.open(f"{log}.{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(printed, 1)
    os.dup2(printed, 2)
    if kill is not None and kill[0] == rank:
        _die_at(kill[1])
    status = 1
    try:
        from skipway.cli import main

        main(arguments)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _die_at(step: int) -> None:
    from skipway.training.loop import Loop

    after = Loop._after_step

    def dying(self: Loop) -> None:
        if self.progress.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        after(self)

    Loop._after_step = dying  # type: ignore[method-assign]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def main() -> None:
    import torch
    import torch.utils.tensorboard

    import skipway.cli
    import skipway.evaluation.figures
    import skipway.evaluation.judge
    import skipway.training.console
    import skipway.training.run  # noqa: F401 (imported once, before the ranks fork)

    torch.set_num_threads(1)
    answers = [run_ring(**job) for job in json.loads(sys.argv[1])]
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
