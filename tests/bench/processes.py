"""What a server's whole process tree has used: CPU time to the nanosecond, and its peak memory.

CPU time is user plus system time of every process that lives under the root, and of those it has
reaped. The kernel keeps a clock per process that counts in nanoseconds and includes threads that
ended; only what reaped children used is known in ticks of 10 ms. A child whose parent died before it
is lost from sight: no server measured here does that.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from dataclasses import dataclass

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_RESIDENT = re.compile(r"^VmRSS:\s+(\d+) kB$", re.MULTILINE)
_RESET_PEAK = "5"  # what /proc/<pid>/clear_refs takes for it: proc(5)


@dataclass(frozen=True, slots=True)
class Peak:
    """Peak resident memory in bytes: of the largest process, and of all together."""

    largest: int
    total: int


def tree(root: int) -> list[int]:
    """`root` and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def answering(root: int) -> set[int]:
    """The processes of the tree that answer requests: all but the one that keeps the others."""
    return {*tree(root)[1:]} or {root}


def answered(root: int, connection: socket.socket) -> set[int]:
    """Those of the tree that have the other end of a TCP connection on this machine."""
    ends = f":{connection.getpeername()[1]:04X}", f":{connection.getsockname()[1]:04X}"
    with open("/proc/net/tcp") as file:
        lines = [line.split() for line in file]
    sockets = {f"socket:[{it[9]}]" for it in lines if (it[1][-5:], it[2][-5:]) == ends}
    return {pid for pid in tree(root) if not sockets.isdisjoint(_open_files(pid))}


def cpu_seconds(root: int) -> float:
    """What the tree has used since it began."""
    return sum(_own_cpu(pid) + _reaped_cpu(pid) for pid in tree(root))


def reset_peaks(root: int) -> None:
    """Let every process's peak begin anew at what it holds now."""
    for pid in tree(root):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(f"/proc/{pid}/clear_refs", "w") as file:
                file.write(_RESET_PEAK)


def peak(root: int) -> Peak:
    """The highest since `reset_peaks`. The total adds peaks that need not have met in time."""
    sizes = [_memory(pid, _PEAK) for pid in tree(root)]
    return Peak(max(sizes), sum(sizes))


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat that follow the name, so `state` first; [] when it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _open_files(pid: int) -> set[str]:
    """What its descriptors lead to."""
    found = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for number in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    return found


def _own_cpu(pid: int) -> float:
    clock = (~pid << 3) | 2  # the kernel's name for a process's CPU clock: clock_getcpuclockid(3)
    try:
        return time.clock_gettime(clock)
    except OSError:
        return 0.0


def _reaped_cpu(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[13]) + int(fields[14])) * _TICK if fields else 0.0


def resident(pid: int) -> int:
    """Bytes that one process holds now; 0 when it is gone."""
    return _memory(pid, _RESIDENT)


def _memory(pid: int, line: re.Pattern[str]) -> int:
    try:
        with open(f"/proc/{pid}/status") as file:
            found = line.search(file.read())
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(found[1]) * 1024 if found else 0
