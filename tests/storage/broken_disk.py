"""Let system calls of this process fail for good, as a full or dying disk lets them.

A seccomp filter answers the named calls with an errno, for every thread and for native libraries
too, so what is tested is what the engines do with the kernel's own errors. Descriptors 0 to 2 are
spared, for the child to report. It cannot be taken back: only for a process of its own.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

_NUMBERS = {
    "x86_64": {
        "write": 1,
        "pread64": 17,
        "pwrite64": 18,
        "fsync": 74,
        "fdatasync": 75,
        "fallocate": 285,
    },
    "aarch64": {
        "write": 64,
        "pread64": 67,
        "pwrite64": 68,
        "fsync": 82,
        "fdatasync": 83,
        "fallocate": 47,
    },
}
_SECCOMP_CALL = {"x86_64": 317, "aarch64": 277}
_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_LOAD, _EQUAL, _GREATER, _RETURN = 0x20, 0x15, 0x25, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16

_SET_NO_NEW_PRIVILEGES = 38
_SET_MODE_FILTER, _ALL_THREADS = 1, 1

READS = ("pread64",)
WRITES = ("write", "pwrite64", "fallocate")
SYNCS = ("fsync", "fdatasync")


def can_break() -> bool:
    """Whether this kernel and machine have what ``let_fail`` needs."""
    return platform.system() == "Linux" and platform.machine() in _NUMBERS


def let_fail(calls: tuple[str, ...], errno: int) -> None:
    """From now on these calls, on any file but 0 to 2, return this errno."""
    machine = platform.machine()
    numbers = [_NUMBERS[machine][call] for call in calls]
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 1, 0, _ARCHITECTURE[machine]),
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _NUMBER_AT),
        # Each comparison jumps to the look at the descriptor; falling through all of them allows.
        *[(_EQUAL, len(numbers) - at, 0, number) for at, number in enumerate(numbers)],
        (_RETURN, 0, 0, _ALLOW),
        (_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
        (_GREATER, 1, 0, 2),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(
        struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    )
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if libc.syscall(_SECCOMP_CALL[machine], _SET_MODE_FILTER, _ALL_THREADS, program):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
