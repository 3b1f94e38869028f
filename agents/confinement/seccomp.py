"""The seccomp filter of the sandbox (seccomp(2)). It refuses system calls that would bypass the namespaces.

- Creating a cgroup namespace. With its own cgroup, user and mount namespaces, the workload could mount the host's
  cgroups. Their owner (root, or a user to whom systemd has delegated the service) can write to them, so the workload
  could freeze or kill processes outside the sandbox and lift its own limits.
- The kernel's keyrings. The workload inherits the session keyring of the user who started the fleet. It may hold
  credentials (Kerberos, fscrypt), and no namespace separates it.
- io_uring, whose operations no filter sees.
- Making a file setuid. Outside the sandbox, in the mission's folder, anyone who runs it would get the permissions of
  the fleet's user. For root's workload also setgid and extended attributes, which hold the capabilities of programs.
  The kernel clears both bits itself when a process without CAP_FSETID writes to a file that was created with them.
- For root's workload: creating a user namespace. There it could mount an overlay, with which the kernel itself copies a
  setuid program of the system, such as `su`, into a writable folder. Writing to it through a mapping keeps its mode.
- Leases on files (fcntl). Their owner may take one on any file that it can read, such as the fleet's code or, as root,
  /etc/passwd. Every process of the host that opens the file then waits until the kernel breaks the lease, by default
  after 45 s, and the workload can take it again.
- Reserving disk space (fallocate). The agent stops a workload that fills a disk by the bytes that it has written, and
  reserving writes none. The C library's posix_fallocate writes instead.
- If the workload has no network: sockets of families that a network namespace does not confine, such as AF_VSOCK, which
  reaches the hypervisor.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

CLONE_NEWCGROUP, CLONE_NEWUSER = 0x02000000, 0x10000000
CLONE3, IO_URING_SETUP, FCHMODAT2, SETXATTRAT = 435, 425, 452, 463  # the same on every architecture
RESERVING_IOCTLS = (  # FS_IOC_RESVSP, RESVSP64, ZERO_RANGE, and those of 32-bit programs (ioctl.c of the kernel)
    0x40305828, 0x4030582A, 0x40305839, 0x402C5828, 0x402C582A, 0x402C5839,
)  # fmt: skip
F_SETLEASE, F_SETDELEG = 1024, 1040
X32 = 0x40000000  # bit that marks calls of the x32 ABI on x86-64
CONFINED = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, 16  # offsets in `struct seccomp_data`
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # classic BPF, linux/bpf_common.h


@dataclass(frozen=True, slots=True)
class _Abi:
    """One system call ABI: its AUDIT_ARCH and its call numbers. 0: it has no such call."""

    audit: int
    clone: int
    unshare: int
    socket: int
    keys: tuple[int, int, int]  # add_key, request_key, keyctl
    chmods: tuple[int, ...]  # chmod, fchmod: their second argument is the mode
    fchmodat: int
    setxattrs: tuple[int, int, int]  # setxattr, lsetxattr, fsetxattr
    fallocate: int
    ioctl: int
    fcntls: tuple[int, ...]  # fcntl, fcntl64
    socketcall: int = 0


_ABIS = {
    "x86_64": (_Abi(0xC000003E, clone=56, unshare=272, socket=41, keys=(248, 249, 250), chmods=(90, 91), fchmodat=268,
                    setxattrs=(188, 189, 190), fallocate=285, ioctl=16, fcntls=(72,)),
               _Abi(0x40000003, clone=120, unshare=310, socket=359, keys=(286, 287, 288), chmods=(15, 94), fchmodat=306,
                    setxattrs=(226, 227, 228), fallocate=324, ioctl=54, fcntls=(55, 221), socketcall=102)),
    "aarch64": (_Abi(0xC00000B7, clone=220, unshare=97, socket=198, keys=(217, 218, 219), chmods=(52,), fchmodat=53,
                     setxattrs=(5, 6, 7), fallocate=47, ioctl=29, fcntls=(25,)),
                _Abi(0x40000028, clone=120, unshare=337, socket=281, keys=(309, 310, 311), chmods=(15, 94), fchmodat=333,
                     setxattrs=(226, 227, 228), fallocate=352, ioctl=54, fcntls=(55, 221))),
}  # fmt: skip


def filter_file(descriptors: ExitStack, *, network: bool, ignore_setgid: bool = False) -> int:
    """A file with the filter for the workload. It is closed with `descriptors`. -1: there is none for this machine.

    In an attempt, the shim applies it to the workload. bubblewrap would apply it to the shim too, which needs clone3.
    """
    if not (rules := program(network=network, root=os.geteuid() == 0, ignore_setgid=ignore_setgid)):
        return -1
    descriptor = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    descriptors.callback(os.close, descriptor)
    os.write(descriptor, rules)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def program(*, network: bool, root: bool, ignore_setgid: bool = False, machine: str = "") -> bytes:
    """The BPF program of the filter; empty for an unknown architecture.

    `root`: whether the workload is root outside its namespaces too. `ignore_setgid`: a call that would set the setgid
    bit reports success and does nothing, instead of failing, because git would stop at the error.
    """
    parts = [
        _rules(abi, network=network, root=root, setgid_error=0 if ignore_setgid else errno.EPERM)
        for abi in _ABIS.get(machine or os.uname().machine, ())
    ]
    if not parts:
        return b""
    return b"".join([_instruction(_LOAD, _ARCHITECTURE), *parts, _refuse(errno.ENOSYS)])


def _rules(abi: _Abi, *, network: bool, root: bool, setgid_error: int) -> bytes:
    """The rules for one ABI. Calls of other ABIs skip them."""
    namespaces = CLONE_NEWCGROUP | (CLONE_NEWUSER if root else 0)
    modes = [(number, 1) for number in abi.chmods] + [(number, 2) for number in (abi.fchmodat, FCHMODAT2)]
    rules = [
        _instruction(_LOAD, _NUMBER),
        _instruction(_AT_LEAST, X32, no=1) + _refuse(errno.ENOSYS),
        *(_if(number, _refuse_bits(namespaces)) for number in (abi.clone, abi.unshare)),
        *(_if(number, _refuse_bits(stat.S_ISUID, argument=argument)) for number, argument in modes),
        # BPF cannot read the flags of clone3, which are in memory. The C library falls back to clone.
        *(_if(number, _refuse(errno.ENOSYS)) for number in (CLONE3, IO_URING_SETUP, *abi.keys)),
        *(
            _if(number, _refuse_values((F_SETLEASE, F_SETDELEG), argument=1, error=errno.EACCES))
            for number in abi.fcntls
        ),
        _if(abi.fallocate, _refuse(errno.EOPNOTSUPP)),
        _if(abi.ioctl, _refuse_values(RESERVING_IOCTLS, argument=1, error=errno.EOPNOTSUPP)),
    ]
    if root:
        rules += [
            _if(number, _refuse_bits(stat.S_ISGID, argument=argument, error=setgid_error)) for number, argument in modes
        ]
        rules += [_if(number, _refuse(errno.EOPNOTSUPP)) for number in (*abi.setxattrs, SETXATTRAT)]
    if not network:
        rules.append(_if(abi.socket, _check_family()))
        if abi.socketcall:  # opens sockets too, with arguments in memory, which BPF cannot read
            rules.append(_if(abi.socketcall, _refuse(errno.ENOSYS)))
    body = b"".join(rules) + _instruction(_RETURN, _ALLOW)
    return _instruction(_EQUAL, abi.audit, no=len(body) // 8) + body


def _if(number: int, then: bytes) -> bytes:
    return _instruction(_EQUAL, number, no=len(then) // 8) + then


def _refuse_bits(bits: int, *, argument: int = 0, error: int = errno.EPERM) -> bytes:
    """Refuse a call if its argument has any of these bits."""
    return b"".join(
        [
            _instruction(_LOAD, _ARGUMENT + 8 * argument),
            _instruction(_HAS_BITS, bits, no=1),
            _refuse(error),
            _instruction(_LOAD, _NUMBER),
        ]
    )


def _refuse_values(values: Iterable[int], *, argument: int, error: int) -> bytes:
    """Refuse a call if its argument has one of these values."""
    refusals = [_instruction(_EQUAL, value, no=1) + _refuse(error) for value in values]
    return b"".join([_instruction(_LOAD, _ARGUMENT + 8 * argument), *refusals, _instruction(_LOAD, _NUMBER)])


def _check_family() -> bytes:
    choices = [_instruction(_EQUAL, family, yes=len(CONFINED) - number) for number, family in enumerate(CONFINED)]
    return b"".join(
        [_instruction(_LOAD, _ARGUMENT), *choices, _refuse(errno.EAFNOSUPPORT), _instruction(_RETURN, _ALLOW)]
    )


def _refuse(number: int) -> bytes:
    return _instruction(_RETURN, _ERRNO | number)


def _instruction(code: int, value: int, *, yes: int = 0, no: int = 0) -> bytes:
    """One instruction. `yes` and `no`: how many instructions to skip if its condition holds or not."""
    return struct.pack("<HBBI", code, yes, no, value)
