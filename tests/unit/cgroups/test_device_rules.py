"""Device rules: the policy, and a small machine that runs its program."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orlop.errors import InvalidArgumentError
from orlop.model.oci import DeviceRule
from orlop.runtime.cgroups.device_program import program
from orlop.runtime.cgroups.devices import for_container, list_changes, list_writes, policy

DENY_ALL: DeviceRule = {"allow": False, "access": "rwm"}
NULL: DeviceRule = {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}


def run(code: bytes, kind: int, access: int, major: int, minor: int) -> bool:
    """Run *code* as the kernel does, for the instructions that we use."""
    registers = [0, 0, 0, 0, 0, 0]
    context = {0: access << 16 | kind, 4: major, 8: minor}
    place = 0
    while True:
        op, both, jump, value = struct.unpack_from("=BBhi", code, place * 8)
        target, source = both & 15, both >> 4
        place += 1
        if op == 0x61:
            registers[target] = context[jump]
        elif op == 0xBF:
            registers[target] = registers[source]
        elif op == 0xB7:
            registers[target] = value
        elif op == 0x57:
            registers[target] &= value
        elif op == 0x77:
            registers[target] >>= value
        elif op in (0x55, 0x15):
            place += jump if (registers[target] != value) == (op == 0x55) else 0
        else:
            assert op == 0x95
            return bool(registers[0])


def test_nothing_is_allowed_without_a_rule() -> None:
    assert not run(program(policy([])), 2, 2, 1, 3)


def test_the_list_form_starts_from_its_default() -> None:
    assert list(list_writes([DENY_ALL, NULL])) == [
        ("devices.deny", "a"),
        ("devices.allow", "c 1:3 rwm"),
    ]
    assert list(list_writes([{"allow": True, "access": "rwm"}])) == [("devices.allow", "a")]


def test_a_container_can_use_its_null_device_whatever_the_rules() -> None:
    for rules in ([], [DENY_ALL]):
        code = program(policy(for_container(rules)))
        assert run(code, 2, 2 | 4, 1, 3)
        assert run(code, 1, 1, 8, 0)  # mknod
        assert not run(code, 1, 2, 8, 0)  # a disk


def test_tunnels_are_allowed_unless_the_rules_name_them() -> None:
    named: DeviceRule = {"allow": False, "type": "c", "major": 10, "minor": 200, "access": "rw"}
    assert run(program(policy(for_container([DENY_ALL]))), 2, 2, 10, 200)
    assert not run(program(policy(for_container([DENY_ALL, named]))), 2, 2, 10, 200)
    given = for_container([DENY_ALL, named, {**named, "allow": True}])
    assert run(program(policy(given)), 2, 2, 10, 200)


def test_with_everything_allowed_nothing_is_added() -> None:
    everything: list[DeviceRule] = [{"allow": True, "access": "rwm"}]
    assert for_container(everything) == everything


def test_a_later_rule_takes_back_what_an_earlier_one_gave() -> None:
    no_write: DeviceRule = {"allow": False, "type": "c", "major": 1, "minor": 3, "access": "w"}
    assert list(list_writes([DENY_ALL, NULL, no_write]))[1:] == [("devices.allow", "c 1:3 rm")]


def test_a_hole_in_a_wildcard_is_refused() -> None:
    wide: DeviceRule = {"allow": True, "type": "c", "access": "m"}
    hole: DeviceRule = {"allow": False, "type": "c", "major": 1, "minor": 3, "access": "m"}
    with pytest.raises(InvalidArgumentError, match="c 1:3"):
        policy([DENY_ALL, wide, hole])


def test_an_unknown_letter_of_access_allows_nothing() -> None:
    known = list_writes([DENY_ALL, NULL | {"access": "rw"}])
    assert list(list_writes([DENY_ALL, NULL | {"access": "rwa"}])) == list(known)


@pytest.mark.parametrize("rule", [{"type": "x"}, {"access": "rwx"}, {"allow": True, "access": "a"}])
def test_malformed_rules_are_refused(rule: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        policy([rule])


def test_all_wanted_access_must_be_allowed() -> None:
    code = program(policy([DENY_ALL, NULL | {"access": "r"}]))
    assert run(code, 2, 2, 1, 3)
    assert not run(code, 2, 2 | 4, 1, 3)
    assert not run(code, 1, 2, 1, 3)
    assert not run(code, 2, 2, 1, 4)


def test_with_everything_allowed_any_denied_access_is_denied() -> None:
    code = program(policy([{"allow": True, "access": "rwm"}, NULL | {"allow": False}]))
    assert not run(code, 2, 4, 1, 3)
    assert run(code, 2, 4, 1, 5)


numbers = st.one_of(st.none(), st.integers(0, 3))
rules = st.lists(
    st.builds(
        lambda allow, kind, major, minor, access: {
            "allow": allow,
            "type": kind,
            "access": access,
            **({} if major is None else {"major": major}),
            **({} if minor is None else {"minor": minor}),
        },
        st.booleans(),
        st.sampled_from("bc"),
        numbers,
        numbers,
        st.sampled_from(["r", "w", "m", "rw", "rwm"]),
    ),
    max_size=5,
)


@given(rules, st.sampled_from("bc"), st.integers(0, 3), st.integers(0, 3), st.sampled_from("rwm"))
def test_program_and_rules_agree(
    wanted: list[DeviceRule], kind: str, major: int, minor: int, access: str
) -> None:
    """For one access at a time the last rule that matches decides."""
    try:
        folded = policy(wanted)
    except InvalidArgumentError:
        return
    matching = [
        bool(rule["allow"])
        for rule in wanted
        if rule["type"] == kind
        and access in rule["access"]
        and rule.get("major", major) == major
        and rule.get("minor", minor) == minor
    ]
    expected = matching[-1] if matching else False
    bits = {"m": 1, "r": 2, "w": 4}[access]
    assert run(program(folded), {"b": 1, "c": 2}[kind], bits, major, minor) == expected


def test_a_list_is_changed_by_what_differs() -> None:
    listed = "c 1:3 rwm\nc 5:* rw\nb *:* m"
    wanted: list[DeviceRule] = [
        DENY_ALL,
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"},
        {"allow": True, "type": "c", "major": 5, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "r"},
    ]
    assert list(list_changes(listed, wanted)) == [
        ("devices.allow", "c 5:* m"),
        ("devices.allow", "c 1:5 r"),
        ("devices.deny", "c 1:3 m"),
        ("devices.deny", "b *:* m"),
    ]


@pytest.mark.parametrize(
    ("listed", "rules"),
    [("a *:* rwm", [DENY_ALL, NULL]), ("c 1:3 rwm", [{"allow": True, "access": "rwm"}])],
)
def test_where_all_is_allowed_the_list_is_written_anew(
    listed: str, rules: list[DeviceRule]
) -> None:
    assert list(list_changes(listed, rules)) == list(list_writes(rules))
