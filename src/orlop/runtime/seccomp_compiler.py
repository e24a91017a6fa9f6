"""Compile a seccomp policy to BPF, by libseccomp, with a prologue for unknown calls.

A call newer than the policy gets ENOSYS, not the policy's error: C libraries try a new
call first and fall back only on ENOSYS. libseccomp cannot express that, so our prologue
in front of its program does. (runc has the same solution.)
"""

import ctypes
import errno
import os
import struct

from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.light import Any, Iterator
from orlop.model.light_context import contextmanager
from orlop.model.oci import Seccomp, SeccompArg, SeccompSyscall
from orlop.runtime import seccomp_optimizer

#: <linux/seccomp.h>, SECCOMP_RET_*
ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
#: Actions with a number, and its maximum: MAX_ERRNO of the kernel, a tracer's message.
_WITH_NUMBER = {"SCMP_ACT_ERRNO": 4095, "SCMP_ACT_TRACE": 0xFFFF}

#: Default actions that allow the call, or ask somebody: then unknown calls get no ENOSYS.
_PERMISSIVE = frozenset({"SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE", "SCMP_ACT_NOTIFY"})

#: <seccomp.h>, enum scmp_compare
OPERATORS = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
_ATTRIBUTE_BAD_ARCH, _ATTRIBUTE_NO_NEW_PRIVS, _ATTRIBUTE_OPTIMIZE = 2, 3, 8
_BINARY_TREE = 2
_MOST_ARGUMENTS = 6

_X86_64, _X32 = 0xC000003E, 0x4000003E
_X32_BIT = 0x40000000  # __X32_SYSCALL_BIT: x32 shares the architecture of x86_64


def check() -> None:
    """UnsupportedError if there is no libseccomp."""
    _Library()


class _Compare(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


class _Library:
    """The functions of libseccomp that we use, with prototypes."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL("libseccomp.so.2")
        except OSError as error:
            raise UnsupportedError(
                "this host has no libseccomp", hint="install libseccomp2, or seccomp=unconfined"
            ) from error
        pointer, text, number, word = (
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_uint32,
        )
        self.init = self._bind(library.seccomp_init, pointer, word)
        self.release = self._bind(library.seccomp_release, None, pointer)
        self.attribute = self._bind(library.seccomp_attr_set, number, pointer, number, word)
        self.arch_of_name = self._bind(library.seccomp_arch_resolve_name, word, text)
        self.native = self._bind(library.seccomp_arch_native, word)
        self.add_arch = self._bind(library.seccomp_arch_add, number, pointer, word)
        self.number_of_name = self._bind(
            library.seccomp_syscall_resolve_name_arch, number, word, text
        )
        self.add_rule = self._bind(
            library.seccomp_rule_add_array,
            *(number, pointer, word, number, ctypes.c_uint, ctypes.POINTER(_Compare)),
        )
        self.export = self._bind(library.seccomp_export_bpf, number, pointer, number)

    @staticmethod
    def _bind(function: Any, result: Any, *arguments: Any) -> Any:
        function.restype, function.argtypes = result, arguments
        return function


def compile(policy: Seccomp) -> bytes:  # noqa: A001 - the verb of this room
    """Return the program of *policy*; see orlop.runtime.seccomp.compile for errors."""
    library = _Library()
    default = _action(policy.get("defaultAction", ""), policy.get("defaultErrnoRet"))
    with _context(library, default) as context:
        archs = _add_archs(library, context, policy)
        for rule in policy.get("syscalls", []):
            _add_rule(library, context, rule, default=default)
        program = _export(library, context)
    if policy.get("defaultAction") not in _PERMISSIVE:
        newest = {arch: _newest(library, arch, policy) for arch in archs}
        program = _prologue(newest) + program
    return seccomp_optimizer.optimize(program)


@contextmanager
def _context(library: _Library, default: int) -> Iterator[int]:
    context = library.init(default)
    if not context:
        raise InvalidArgumentError("libseccomp refuses the seccomp policy's defaultAction")
    try:
        library.attribute(context, _ATTRIBUTE_NO_NEW_PRIVS, 0)  # the runtime sets it
        library.attribute(context, _ATTRIBUTE_OPTIMIZE, _BINARY_TREE)  # libseccomp 2.5
        yield context
    finally:
        library.release(context)


def _action(name: str, number: int | None) -> int:
    try:
        value = ACTIONS[name]
    except KeyError:
        raise InvalidArgumentError(f"unknown seccomp action {name!r}") from None
    if name not in _WITH_NUMBER:
        if number is not None:
            raise InvalidArgumentError(f"seccomp action {name} takes no errnoRet")
        return value
    number = errno.EPERM if number is None else number
    if not 0 <= number <= _WITH_NUMBER[name]:
        raise InvalidArgumentError(f"seccomp errnoRet {number} is not 0 to {_WITH_NUMBER[name]}")
    return value | number


def _add_archs(library: _Library, context: int, policy: Seccomp) -> list[int]:
    """Add the named architectures to the native one, and return all."""
    archs = [library.native()]
    for name in policy.get("architectures", []):
        arch = library.arch_of_name(name.removeprefix("SCMP_ARCH_").lower().encode())
        if not arch:
            raise InvalidArgumentError(f"unknown seccomp architecture {name!r}")
        _check(library.add_arch(context, arch), name, done=errno.EEXIST)
        archs.append(arch)
    return list(dict.fromkeys(archs))


def _add_rule(library: _Library, context: int, rule: SeccompSyscall, *, default: int) -> None:
    """Add *rule* for each of its names; names that this libseccomp does not know are skipped."""
    action = _action(rule.get("action", ""), rule.get("errnoRet"))
    if not rule.get("names"):
        raise InvalidArgumentError("a seccomp rule names no system call")
    if action == default:
        return
    native = library.native()
    for name in rule.get("names", []):
        number = library.number_of_name(native, name.encode())
        if number == -1:
            continue
        for arguments in _alternatives(rule.get("args") or []):
            array = (_Compare * max(len(arguments), 1))(*(_compare(each) for each in arguments))
            code = library.add_rule(context, action, number, len(arguments), array)
            _check(code, f"rule for {name}", done=errno.EEXIST)


def _alternatives(arguments: list[SeccompArg]) -> list[list[SeccompArg]]:
    """Split a rule: all tests must hold; but of several tests of one argument any one suffices.

    runc reads profiles in this way, and Docker's are written for that.
    """
    places = [argument.get("index", 0) for argument in arguments]
    if len(set(places)) == len(places):
        return [arguments]
    return [[argument] for argument in arguments]


def _compare(argument: SeccompArg) -> _Compare:
    operator, index = argument.get("op", ""), argument.get("index", 0)
    if operator not in OPERATORS:
        raise InvalidArgumentError(f"unknown seccomp operator {operator!r}")
    if not 0 <= index < _MOST_ARGUMENTS:
        raise InvalidArgumentError(f"seccomp argument index {index} is not 0 to 5")
    first, second = argument.get("value", 0), argument.get("valueTwo", 0)
    return _Compare(index, OPERATORS[operator], first, second)


def _check(code: int, what: str, *, done: int) -> None:
    if code and code != -done:
        reason = os.strerror(-code).lower()
        raise InvalidArgumentError(f"libseccomp refuses the policy's {what}: {reason}")


def _export(library: _Library, context: int) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        _check(library.export(context, fd), "program", done=0)
        size = os.lseek(fd, 0, os.SEEK_END)
        return os.pread(fd, size, 0)
    finally:
        os.close(fd)


def _newest(library: _Library, arch: int, policy: Seccomp) -> int:
    """Return the highest number, on *arch*, of a call that *policy* names."""
    names = {name for rule in policy.get("syscalls", []) for name in rule.get("names", [])}
    numbers = (library.number_of_name(arch, name.encode()) for name in names)
    return max((number for number in numbers if number >= 0), default=0)


_LOAD, _RETURN, _JUMP = 0x20, 0x06, 0x05  # BPF_LD|W|ABS, BPF_RET|K, BPF_JMP|JA
_IF_EQUAL, _IF_GREATER, _IF_AT_LEAST = 0x15, 0x25, 0x35
_AT_NUMBER, _AT_ARCH = 0, 4  # offsets in struct seccomp_data


def _statement(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("=HBBI", code, then, otherwise, value)


def _prologue(newest: dict[int, int]) -> bytes:
    """Return ENOSYS for numbers above the *newest* of their architecture, else fall through."""
    program = b""
    for arch, number in reversed([item for item in newest.items() if item[0] != _X32]):
        rest = len(program) // 8
        nosys = _statement(_RETURN, ACTIONS["SCMP_ACT_ERRNO"] | errno.ENOSYS)
        body = [_statement(_LOAD, _AT_NUMBER)]
        if arch == _X86_64:
            body.append(_statement(_IF_AT_LEAST, _X32_BIT, then=2))
        body += [_statement(_IF_GREATER, number, otherwise=1), nosys, _statement(_JUMP, rest)]
        program = _statement(_IF_EQUAL, arch, otherwise=len(body)) + b"".join(body) + program
    return _statement(_LOAD, _AT_ARCH) + program
