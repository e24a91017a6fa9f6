"""Turn config.json's device rules into one policy, for v1's list or v2's program.

config-linux.md, "Allowed Device list": rules apply in order, the last match wins. A
policy has no order: it is a default answer and the exceptions from it.
"""

from orlop.errors import InvalidArgumentError
from orlop.model.light import Iterable, Iterator, NamedTuple
from orlop.model.oci import DeviceRule

ANY = -1
ACCESS = "rwm"


#: Every container may make any node, and use the harmless devices and terminals, whatever
#: its rules. config-linux.md, "Default Devices".
ALWAYS_ALLOWED: tuple[DeviceRule, ...] = (
    {"allow": True, "type": "c", "access": "m"},
    {"allow": True, "type": "b", "access": "m"},
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},  # null
    {"allow": True, "type": "c", "major": 1, "minor": 5, "access": "rwm"},  # zero
    {"allow": True, "type": "c", "major": 1, "minor": 7, "access": "rwm"},  # full
    {"allow": True, "type": "c", "major": 1, "minor": 8, "access": "rwm"},  # random
    {"allow": True, "type": "c", "major": 1, "minor": 9, "access": "rwm"},  # urandom
    {"allow": True, "type": "c", "major": 5, "minor": 0, "access": "rwm"},  # tty
    {"allow": True, "type": "c", "major": 5, "minor": 2, "access": "rwm"},  # ptmx
    {"allow": True, "type": "c", "major": 136, "access": "rwm"},  # pts/*
)

#: Also allowed unless the rules name it, because runc's users rely on it: they make the node
#: themselves. The engine's containers need `--device` for it.
_TUN: DeviceRule = {"allow": True, "type": "c", "major": 10, "minor": 200, "access": "rwm"}
WITHOUT_TUN: DeviceRule = {**_TUN, "allow": False, "access": "rw"}


class Device(NamedTuple):
    """A set of device nodes: type "b" or "c", numbers or ANY."""

    type: str
    major: int
    minor: int

    def covers(self, other: "Device") -> bool:
        """Whether this set contains all of *other*."""
        return (
            self.type == other.type
            and self.major in (ANY, other.major)
            and self.minor in (ANY, other.minor)
        )

    def meets(self, other: "Device") -> bool:
        """Whether the two sets have a node in common."""
        return self.type == other.type and all(
            mine == theirs or ANY in (mine, theirs)
            for mine, theirs in ((self.major, other.major), (self.minor, other.minor))
        )


class Policy(NamedTuple):
    """*allow* is the answer for devices without an exception."""

    allow: bool
    exceptions: dict[Device, str]  # access in "rwm" that has the other answer


def policy(rules: Iterable[DeviceRule]) -> Policy:
    """Fold *rules*, which start from "deny all", into a policy.

    Raises:
        InvalidArgumentError: a rule is malformed, or excludes a part of a wider
            exception, which neither kernel interface can express.
    """
    result = Policy(allow=False, exceptions={})
    for rule in rules:
        allow = bool(rule.get("allow", False))
        access = _access(rule)
        device_type = rule.get("type") or "a"
        major, minor = rule.get("major"), rule.get("minor")
        numbers = (ANY if major is None else major, ANY if minor is None else minor)
        if device_type == "a" and numbers == (ANY, ANY) and access == ACCESS:
            result = Policy(allow, {})
            continue
        for letter in _types(device_type):
            _apply(result, Device(letter, *numbers), access, allow=allow)
    return result


def for_container(rules: Iterable[DeviceRule]) -> list[DeviceRule]:
    """Return *rules* with ALWAYS_ALLOWED appended, unless they start from "allow all".

    So the container of a bundle without rules, or with only the "deny all" that `runc
    spec` writes, can use its /dev/null, and nothing more.
    """
    given = list(rules)
    if policy(given).allow:
        return given
    names_tun = any(_names_tun(rule) for rule in given)
    return [*given, *ALWAYS_ALLOWED, *(() if names_tun else (_TUN,))]


def _names_tun(rule: DeviceRule) -> bool:
    return all(rule.get(key) == _TUN[key] for key in ("type", "major", "minor"))


def _types(device_type: str) -> str:
    try:
        return {"a": "bc", "b": "b", "c": "c", "u": "c"}[device_type]
    except KeyError:
        raise InvalidArgumentError(
            f"device rule has unknown type {device_type!r}", hint="one of a, b, c"
        ) from None


def _access(rule: DeviceRule) -> str:
    """Return the known letters. An unknown one allows nothing; in a denying rule it is an error."""
    access = rule.get("access") or ACCESS
    known = "".join(letter for letter in ACCESS if letter in access)
    if set(access) - set(known) and not (known and rule.get("allow")):
        raise InvalidArgumentError(
            f"device rule has unknown access {access!r}", hint="from r, w, m"
        )
    return known


def _apply(result: Policy, device: Device, access: str, *, allow: bool) -> None:
    exceptions = result.exceptions
    if allow != result.allow:
        merged = set(exceptions.get(device, "")) | set(access)
        exceptions[device] = "".join(letter for letter in ACCESS if letter in merged)
        return
    for other, held in list(exceptions.items()):
        left = "".join(letter for letter in held if letter not in access)
        if left == held or not device.meets(other):
            continue
        if not device.covers(other):
            raise InvalidArgumentError(
                f"device rule for {text(device)} takes a part out of the rule for {text(other)}",
                hint="name the devices one by one, or drop the wider rule",
            )
        if left:
            exceptions[other] = left
        else:
            del exceptions[other]


def text(device: Device) -> str:
    """Spell *device* as in v1's files: "c 1:3", "b 8:*"."""
    major, minor = ("*" if number == ANY else str(number) for number in device[1:])
    return f"{device.type} {major}:{minor}"


def list_changes(listed: str, rules: Iterable[DeviceRule]) -> Iterator[tuple[str, str]]:
    """Yield (file, value) that change the policy in devices.list to that of *rules*.

    Devices that both allow stay allowed throughout, unless one of them allows all: then the
    list does not show what is denied.
    """
    wanted = policy(rules)
    now = dict(_listed(listed))
    if wanted.allow or listed.startswith("a"):
        yield from list_writes(rules)
        return
    for file, these, others in (
        ("devices.allow", wanted.exceptions, now),
        ("devices.deny", now, wanted.exceptions),
    ):
        for device, access in these.items():
            if more := "".join(x for x in access if x not in others.get(device, "")):
                yield file, f"{text(device)} {more}"


def _listed(lines: str) -> Iterator[tuple[Device, str]]:
    """Parse devices.list: lines like "c 1:3 rwm"."""
    for line in lines.splitlines():
        kind, numbers, access = line.split(" ")
        major, minor = (ANY if part == "*" else int(part) for part in numbers.split(":"))
        yield Device(kind, major, minor), access


def list_writes(rules: Iterable[DeviceRule]) -> Iterator[tuple[str, str]]:
    """Yield (file, value) that set the policy of *rules*. cgroup-v1/devices.rst."""
    allow, exceptions = policy(rules)
    yield ("devices.allow" if allow else "devices.deny"), "a"
    file = "devices.deny" if allow else "devices.allow"
    for device, access in exceptions.items():
        yield file, f"{text(device)} {access}"
