"""Restrict which system calls this process can make, by Linux's seccomp filters and the system's libseccomp.

See https://github.com/seccomp/libseccomp; every Debian, Ubuntu, Fedora and RHEL carries the library.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys

__all__ = ["NETWORK_CALLS", "allow_only_decoding", "has_seccomp"]

_LIBRARY = "libseccomp.so.2"
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_EQUAL, _MASKED_EQUAL = 4, 7
_CLONE_THREAD = 0x10000
_PR_GET_SECCOMP = 21

_CALLS = """
access brk clock_getres clock_gettime clock_nanosleep close dup exit exit_group faccessat faccessat2 fadvise64 fcntl
fstat fstatfs futex futex_waitv getcwd getdents64 getegid geteuid getgid getpid getppid getrandom getrlimit getrusage
get_robust_list gettid gettimeofday getuid ioctl lseek lstat madvise membarrier mincore mmap mprotect mremap munmap
nanosleep newfstatat open openat poll ppoll pread64 preadv pselect6 read readlink readlinkat readv restart_syscall rseq
rt_sigaction rt_sigprocmask rt_sigreturn sched_getaffinity sched_getparam sched_getscheduler sched_yield select
set_robust_list set_tid_address sigaltstack stat statfs statx sysinfo tgkill time times uname write writev
"""
"""What decoding a file needs; opening for writing is left to the limits on files."""

NETWORK_CALLS = """
accept accept4 bind connect epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd2 getpeername getsockname
getsockopt listen pipe2 recvfrom recvmmsg recvmsg sendmmsg sendmsg sendto setsockopt shutdown socket socketpair
"""
"""What reading a camera needs as well, one that connects to this machine included."""


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def has_seccomp() -> bool:
    """Whether the kernel filters system calls and the system has libseccomp."""
    if sys.platform != "linux" or _library() is None:
        return False
    return int(ctypes.CDLL(None, use_errno=True).prctl(_PR_GET_SECCOMP, 0, 0, 0, 0)) >= 0


def allow_only_decoding(further: str = "") -> None:
    """Refuse every system call that decoding does not need, in this thread and what it starts; there is no way back.

    New threads may be started, processes may not, and no limit of the process can be changed. A call that is refused
    fails with ``EPERM``.

    Args:
        further: Names of calls that are allowed as well, apart by spaces, such as `NETWORK_CALLS`.

    Raises:
        OSError: There is no libseccomp, or the kernel refuses the filter.
    """
    library = _library()
    if library is None:
        raise OSError(errno.ENOSYS, f"this system has no {_LIBRARY}")
    context = library.seccomp_init(ctypes.c_uint32(_ERRNO | errno.EPERM))
    if not context:
        raise OSError(errno.ENOMEM, "seccomp: no filter can be made")
    try:
        for name in (*_CALLS.split(), *further.split()):
            _add(library, context, _ALLOW, name)
        _add(library, context, _ERRNO | errno.ENOSYS, "clone3")  # the C library then uses clone, which can be looked at
        _add(library, context, _ALLOW, "clone", _Comparison(0, _MASKED_EQUAL, _CLONE_THREAD, _CLONE_THREAD))
        _add(library, context, _ALLOW, "prlimit64", _Comparison(2, _EQUAL, 0, 0))
        _check(library.seccomp_load(context))
    finally:
        library.seccomp_release(context)


def _add(library: ctypes.CDLL, context: int, action: int, name: str, *comparisons: _Comparison) -> None:
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number < 0:  # this architecture, or this version of the library, does not have it
        return
    array = (_Comparison * len(comparisons))(*comparisons)
    result = library.seccomp_rule_add_array(
        ctypes.c_void_p(context), ctypes.c_uint32(action), number, ctypes.c_uint(len(comparisons)), array
    )
    _check(result)


def _check(result: int) -> None:
    if result < 0:
        raise OSError(-result, f"seccomp: {os.strerror(-result)}")


@functools.cache
def _library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_load.argtypes = library.seccomp_release.argtypes = [ctypes.c_void_p]
    return library
