"""A shorter program answers as the one that libseccomp has written."""

import operator
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orlop.model.oci import Seccomp
from orlop.runtime import seccomp_compiler, seccomp_default, seccomp_optimizer, seccomp_profile

_INSTRUCTION = struct.Struct("=HBBI")
_DATA = struct.Struct("=IIQ6Q")  # struct seccomp_data
_X86_64, _X86, _AARCH64, _X32_BIT = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000000
_NUMBERS = [*range(600), *range(_X32_BIT, _X32_BIT + 600), 1 << 31, (1 << 32) - 1]
_TESTS: dict[int, Callable[[int, int], bool]] = {
    0x15: operator.eq,
    0x25: operator.gt,
    0x35: operator.ge,
    0x45: lambda a, k: bool(a & k),
}
_WORDS = st.one_of(
    st.sampled_from([0, 1, 2, 8, 38, 39, 40, 0x20000, 0x7E020000, 0x10000000, 1 << 32, 1 << 63]),
    st.integers(0, (1 << 64) - 1),
)
_CALLS = ["read", "clone", "socket", "personality", "io_uring_setup", "openat2", "getpid", "ptrace"]
_ACTIONS = ["SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_LOG", "SCMP_ACT_TRAP"]
_TESTED: st.SearchStrategy[Any] = st.fixed_dictionaries(
    {
        "index": st.integers(0, 5),
        "value": _WORDS,
        "valueTwo": _WORDS,
        "op": st.sampled_from(sorted(seccomp_compiler.OPERATORS)),
    }
)
_RULE = st.fixed_dictionaries(
    {
        "names": st.lists(st.sampled_from(_CALLS), min_size=1, max_size=4, unique=True),
        "action": st.sampled_from(_ACTIONS),
        "args": st.lists(_TESTED, max_size=2, unique_by=operator.itemgetter("index")),
    }
)


def answer(program: bytes, arch: int, number: int, words: list[int]) -> int:
    """Run *program*: what it returns for one call. net/core/filter.c"""
    source = list(_INSTRUCTION.iter_unpack(program))
    data = _DATA.pack(number, arch, 0, *words)
    place = held = 0
    while True:
        code, then, otherwise, value = source[place]
        place += 1
        if code == 0x20:
            (held,) = struct.unpack_from("=I", data, value)
        elif code == 0x54:
            held &= value
        elif code == 0x05:
            place += value
        elif code == 0x06:
            return int(value)
        else:
            place += then if _TESTS[code](held, value) else otherwise


def both(policy: Seccomp, monkeypatch: pytest.MonkeyPatch) -> tuple[bytes, bytes]:
    """Return libseccomp's program of *policy*, and the shorter one."""
    with monkeypatch.context() as patch:
        patch.setattr(seccomp_optimizer, "optimize", lambda program: program)
        long = seccomp_compiler.compile(policy)
    return long, seccomp_compiler.compile(policy)


@pytest.mark.parametrize("capabilities", [[], ["CAP_SYS_ADMIN", "CAP_BPF", "CAP_SYS_PTRACE"]])
def test_dockers_profile_is_a_third_as_long_and_answers_the_same(
    capabilities: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = seccomp_profile.resolve(
        seccomp_default.profile(), capabilities, machine="x86_64", kernel="6.12.0"
    )
    long, short = both(policy, monkeypatch)
    assert len(short) * 3 < len(long)
    words = [[word] * 6 for word in (0, 39, 0x10000000)]
    for arch in (_X86_64, _X86, _AARCH64, 1):
        for number in _NUMBERS:
            for six in words:
                assert answer(short, arch, number, six) == answer(long, arch, number, six)


@given(
    rules=st.lists(_RULE, max_size=6),
    default=st.sampled_from(_ACTIONS),
    archs=st.sampled_from([[], ["SCMP_ARCH_X86"], ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]]),
    calls=st.lists(
        st.tuples(
            st.sampled_from([_X86_64, _X86, _AARCH64]),
            st.sampled_from(_NUMBERS),
            st.lists(_WORDS, min_size=6, max_size=6),
        ),
        min_size=20,
        max_size=60,
    ),
)
def test_any_program_answers_as_before(
    rules: list[Any], default: str, archs: list[str], calls: list[tuple[int, int, list[int]]]
) -> None:
    policy: Seccomp = {"defaultAction": default, "architectures": archs, "syscalls": rules}
    with pytest.MonkeyPatch.context() as patch:
        long, short = both(policy, patch)
    asked = [(arch, number, words) for arch, number, words in calls]
    for name in {name for rule in rules for name in rule["names"]}:
        number = seccomp_compiler._Library().number_of_name(_X86_64, name.encode())
        values = [[t["value"] for t in rule["args"]] for rule in rules]
        asked += [(_X86_64, number, [*some, 0, 0, 0, 0, 0, 0][:6]) for some in values]
        asked += [(_X86_64, number, [word] * 6) for some in values for word in some]
    for arch, number, words in asked:
        assert answer(short, arch, number, words) == answer(long, arch, number, words)


@pytest.mark.parametrize("code", [0x80, 0x07, 0x45])
def test_a_program_with_other_instructions_is_left_alone(code: int) -> None:
    program = _INSTRUCTION.pack(0x20, 0, 0, 0) + _INSTRUCTION.pack(code, 0, 0, 1)
    program += _INSTRUCTION.pack(0x06, 0, 0, 0x7FFF0000)
    assert seccomp_optimizer.optimize(program) == program
