"""Runs a command as a unit's sandbox would: python confined.py SYSCALLS -- COMMAND...

SYSCALLS are the names that are allowed, with commas; any other fails with EPERM. Memory is never made
executable, and no privilege can be gained. Uses libseccomp, which container engines bring along.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 38, 65
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM


def check(failed: bool, what: str) -> None:
    if failed:
        sys.exit(f"confined: {what} failed: {os.strerror(ctypes.get_errno())}")


def confine(names: list[str]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0, "PR_SET_NO_NEW_PRIVS")
    rules = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(REFUSE)))
    check(rules.value is None, "seccomp_init")
    for name in names:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # else another architecture has it
            refused = seccomp.seccomp_rule_add(rules, ctypes.c_uint32(ALLOW), number, 0)
            check(refused != 0, f"allowing {name}")
    check(libc.prctl(PR_SET_MDWE, 1, 0, 0, 0) != 0, "PR_SET_MDWE")
    check(seccomp.seccomp_load(rules) != 0, "seccomp_load")


if __name__ == "__main__":
    syscalls, _, *command = sys.argv[1:]
    confine(syscalls.split(","))
    os.execvp(command[0], command)
