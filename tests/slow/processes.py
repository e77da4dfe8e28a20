"""A run and everything that it started, to be killed."""

import contextlib
import signal

import psutil


def tree(pid: int) -> list[psutil.Process]:
    """The process first, then all that descend from it; nothing if it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    return []


def kill(processes: list[psutil.Process]) -> None:
    """SIGKILL to each; helpers of a moment may have ended by themselves since they were listed."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
