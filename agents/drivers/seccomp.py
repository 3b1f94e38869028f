"""Which system calls the sandbox refuses (seccomp(2)): those by which the work would reach around its namespaces.

- A cgroup namespace. With one of its own, beside user and mount namespaces, the work could mount the host's cgroups, whose
  files take what their owner writes: root, or a user to whom systemd has delegated its service. So it could halt or end
  processes outside, and lift its limits.
- Without a network: sockets of all families but those that a network namespace confines. AF_VSOCK reaches the hypervisor.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass

CLONE_NEWCGROUP = 0x02000000
CLONE3, IO_URING_SETUP = 435, 425  # the same on every architecture
X32 = 0x40000000  # bit of the numbers of a second set of calls, which x86-64 has beside its own
CONFINED = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, 16  # places in `struct seccomp_data`
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _HAS_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # classic BPF, linux/bpf_common.h


@dataclass(frozen=True, slots=True)
class _Calls:
    """One way to call the system: its AUDIT_ARCH, and the numbers of calls. 0: there is none."""

    audit: int
    clone: int
    unshare: int
    socket: int
    socketcall: int = 0


_CALLS = {
    "x86_64": (_Calls(0xC000003E, clone=56, unshare=272, socket=41),
               _Calls(0x40000003, clone=120, unshare=310, socket=359, socketcall=102)),
    "aarch64": (_Calls(0xC00000B7, clone=220, unshare=97, socket=198),
                _Calls(0x40000028, clone=120, unshare=337, socket=281)),
}  # fmt: skip


def program(*, network: bool, machine: str = "") -> bytes:
    """The filter, for bubblewrap's `--seccomp`; empty for an architecture whose calls are not known here."""
    parts = [_calls(calls, network=network) for calls in _CALLS.get(machine or os.uname().machine, ())]
    if not parts:
        return b""
    return b"".join([_step(_LOAD, _ARCHITECTURE), *parts, _refuse(errno.ENOSYS)])


def _calls(calls: _Calls, *, network: bool) -> bytes:
    """The rules for one way to call; others pass over them."""
    rules = [
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, X32, no=1) + _refuse(errno.ENOSYS),
        *(_if(number, _with_bit(CLONE_NEWCGROUP)) for number in (calls.clone, calls.unshare)),
        _if(CLONE3, _refuse(errno.ENOSYS)),  # its flags lie in memory; the C library falls back to clone
    ]
    if not network:
        rules.append(_if(calls.socket, _of_family()))
        # Both open sockets by what lies in memory.
        rules += [_if(number, _refuse(errno.ENOSYS)) for number in (IO_URING_SETUP, calls.socketcall) if number]
    body = b"".join(rules) + _step(_RETURN, _ALLOW)
    return _step(_EQUAL, calls.audit, no=len(body) // 8) + body


def _if(number: int, then: bytes) -> bytes:
    return _step(_EQUAL, number, no=len(then) // 8) + then


def _with_bit(bit: int) -> bytes:
    return b"".join([_step(_LOAD, _ARGUMENT), _step(_HAS_BIT, bit, no=1), _refuse(errno.EPERM), _step(_LOAD, _NUMBER)])


def _of_family() -> bytes:
    choices = [_step(_EQUAL, family, yes=len(CONFINED) - number) for number, family in enumerate(CONFINED)]
    return b"".join([_step(_LOAD, _ARGUMENT), *choices, _refuse(errno.EAFNOSUPPORT), _step(_RETURN, _ALLOW)])


def _refuse(number: int) -> bytes:
    return _step(_RETURN, _ERRNO | number)


def _step(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One instruction, and how many to pass over where its condition holds or not."""
    return struct.pack("<HBBI", code, yes, no, value)
