"""Resources and annotations of config.json -> properties of a systemd unit. Pure, but for /proc.

systemd.resource-control(5), org.freedesktop.systemd1(5). What systemd has no word for, or
rounds, is written to the cgroup's files besides; what it has a word for it must be told, for
it writes its own idea of it again whenever it likes.
"""

from orlop.errors import InvalidArgumentError
from orlop.model.light import Any, Iterable, Iterator, Mapping, NamedTuple
from orlop.model.oci import CPU, Memory, Resources
from orlop.runtime.cgroups.devices import ANY, Device, policy
from orlop.runtime.cgroups.files import read_or
from orlop.runtime.cgroups.v2_limits import weight_of_shares

_INFINITY = (1 << 64) - 1
_SECOND_US = 1_000_000
_PERIOD_US = 100_000
_QUOTA_STEP_US = 10_000  # systemd keeps whole percents of a processor
_ANNOTATION = "org.systemd.property."

#: What an annotation may set, and its type: how the unit ends, and nothing else. Other
#: properties start units, move processes or lift limits (CVE-2024-3154).
_BY_ANNOTATION = {
    "CollectMode": "s",
    "Description": "s",
    "FinalKillSignal": "i",
    "KillMode": "s",
    "KillSignal": "i",
    "OOMPolicy": "s",
    "RuntimeMaxUSec": "t",
    "SendSIGHUP": "b",
    "SendSIGKILL": "b",
    "TimeoutStopUSec": "t",
}

_NUMBERS = frozenset({"byte", "int16", "uint16", "int32", "uint32", "int64", "uint64", "double"})


class Property(NamedTuple):
    name: str
    signature: str
    value: Any


def for_resources(resources: Resources, *, v1: frozenset[str]) -> list[Property]:
    """Return what the unit is to have; *v1* are the controllers that live in v1 hierarchies.

    Raises:
        InvalidArgumentError: a value is malformed.
    """
    cpu, memory = resources.get("cpu", {}), resources.get("memory", {})
    found = [*_cpu(cpu, v1=v1), *_quota(cpu.get("quota") or 0, cpu.get("period") or 0)]
    found += _memory_v1(memory) if "memory" in v1 else _memory_v2(memory)
    if (limit := resources.get("pids", {}).get("limit")) is not None:
        found.append(Property("TasksMax", "t", _INFINITY if limit < 0 else limit or 1))
    if weight := resources.get("blockIO", {}).get("weight"):
        name = "BlockIOWeight" if "blkio" in v1 else "IOWeight"
        found.append(Property(name, "t", weight))
    if "devices" in resources:
        found += _devices(resources)
    if not v1:
        found += _unified(resources.get("unified", {}))
    return found


def for_annotations(annotations: Mapping[str, str]) -> list[Property]:
    """Return what annotations such as org.systemd.property.TimeoutStopUSec="uint64 5" set.

    Raises:
        InvalidArgumentError: one names a property that is not to be had so, or its value is
            none of the property's type.
    """
    found = []
    for key, text in annotations.items():
        if not key.startswith(_ANNOTATION):
            continue
        name = key.removeprefix(_ANNOTATION)
        seconds = name.endswith("Sec") and not name.endswith("USec")
        if seconds:
            name = name.removesuffix("Sec") + "USec"
        if name not in _BY_ANNOTATION:
            allowed = ", ".join(_BY_ANNOTATION)
            raise InvalidArgumentError(
                f"annotation {key} sets what a container may not", hint=f"allowed are {allowed}"
            )
        signature = _BY_ANNOTATION[name]
        found.append(Property(name, signature, _value(key, text, signature, seconds=seconds)))
    return found


def _value(key: str, text: str, signature: str, *, seconds: bool) -> Any:
    """Parse GVariant's text form, as far as the types above need it."""
    text = text.strip()
    quoted, quote = text[1:-1], text[:1]
    if signature == "s" and len(text) > 1 and quote in "'\"" and text[-1] == quote:
        if quote not in quoted and "\\" not in quoted:
            return quoted
    elif signature == "b" and text in ("true", "false"):
        return text == "true"
    elif signature in "ti":
        number = _number(text, seconds=seconds)
        if number is not None and number < 1 << (64 if signature == "t" else 31):
            return number
    raise InvalidArgumentError(f"annotation {key} has no value of its type: {text!r}")


def _number(text: str, *, seconds: bool) -> int | None:
    """Parse "7" or "uint64 7"; in microseconds if it is in *seconds*, which may be "1.5"."""
    kind, blank, digits = text.rpartition(" ")
    if blank and kind not in _NUMBERS:
        return None
    whole, point, fraction = digits.partition(".")
    if not whole.isdecimal() or (point and not (seconds and fraction.isdecimal())):
        return None
    return int(whole) * _SECOND_US + int(f"{fraction:0<6.6}") if seconds else int(whole)


def _cpu(cpu: CPU, *, v1: frozenset[str]) -> Iterator[Property]:
    if shares := cpu.get("shares"):
        if "cpu" in v1:
            yield Property("CPUShares", "t", shares)
        elif not cpu.get("idle"):
            yield Property("CPUWeight", "t", weight_of_shares(shares))
    if cpu.get("idle") and "cpu" not in v1:
        yield Property("CPUWeight", "t", 0)  # systemd's word for idle, 252
    if v1:
        return  # its cpusets are none of systemd's business
    if cpus := cpu.get("cpus"):
        yield Property("AllowedCPUs", "ay", _bits("cpu.cpus", cpus))
    if mems := cpu.get("mems"):
        yield Property("AllowedMemoryNodes", "ay", _bits("cpu.mems", mems))


def _quota(quota: int, period: int) -> Iterator[Property]:
    if period:
        yield Property("CPUQuotaPeriodUSec", "t", period)
    if quota > 0:
        per_second = quota * _SECOND_US // (period or _PERIOD_US)
        rounded = -(-per_second // _QUOTA_STEP_US) * _QUOTA_STEP_US
        yield Property("CPUQuotaPerSecUSec", "t", rounded)
    elif quota < 0:
        yield Property("CPUQuotaPerSecUSec", "t", _INFINITY)


def _memory_v1(memory: Memory) -> Iterator[Property]:
    if limit := memory.get("limit"):
        yield Property("MemoryLimit", "t", _ceiling(limit))


def _memory_v2(memory: Memory) -> Iterator[Property]:
    limit, both = memory.get("limit") or 0, memory.get("swap") or 0
    if limit:
        yield Property("MemoryMax", "t", _ceiling(limit))
    if reservation := memory.get("reservation"):
        yield Property("MemoryLow", "t", _ceiling(reservation))
    if both < 0 or (limit < 0 and not both):
        yield Property("MemorySwapMax", "t", _INFINITY)
    elif both and limit > 0:
        yield Property("MemorySwapMax", "t", both - limit)


def _ceiling(value: int) -> int:
    return _INFINITY if value < 0 else value


def _unified(files: Mapping[str, str]) -> Iterator[Property]:
    """Tell systemd of those of the user's files that it writes itself."""
    numbers = {
        "cpu.weight": "CPUWeight",
        "memory.high": "MemoryHigh",
        "memory.low": "MemoryLow",
        "memory.max": "MemoryMax",
        "memory.min": "MemoryMin",
        "memory.swap.max": "MemorySwapMax",
        "pids.max": "TasksMax",
    }
    sets = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}
    for file, value in files.items():
        text = value.strip()
        if file in numbers and (text == "max" or text.isdecimal()):
            yield Property(numbers[file], "t", _INFINITY if text == "max" else int(text))
        elif file in sets:
            yield Property(sets[file], "ay", _bits(f"unified {file}", text))
        elif file == "cpu.max":
            quota, _, period = text.partition(" ")
            if quota == "max" or quota.isdecimal():
                number = -1 if quota == "max" else int(quota)
                yield from _quota(number, int(period) if period.isdecimal() else 0)


def _bits(field: str, text: str) -> bytes:
    """Turn "0-2,7" into a set of bits, the lowest first."""
    bits = 0
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < 1 << 16):
            raise InvalidArgumentError(f"{field} {text!r} is no list of numbers", hint='as "0-2,7"')
        bits |= (1 << int(last) + 1) - (1 << int(first))
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def _devices(resources: Resources) -> Iterator[Property]:
    """A policy that allows all but some is beyond systemd: it is told to leave it alone."""
    allow, exceptions = policy(resources["devices"])
    yield Property("DevicePolicy", "s", "auto" if allow else "strict")
    yield Property("DeviceAllow", "a(ss)", [])  # empties the list; the next ones add to it
    named = [] if allow else [*_named(exceptions.items())]
    if named:
        yield Property("DeviceAllow", "a(ss)", named)


def _named(devices: Iterable[tuple[Device, str]]) -> Iterator[tuple[str, str]]:
    """Spell devices as systemd does; "any major, this minor" it cannot say."""
    drivers = _drivers()
    for device, access in devices:
        kind = "block" if device.type == "b" else "char"
        if device.major == ANY and device.minor == ANY:
            yield f"{kind}-*", access
        elif ANY not in (device.major, device.minor):
            yield f"/dev/{kind}/{device.major}:{device.minor}", access
        elif name := drivers.get((device.type, device.major)):
            yield f"{kind}-{name}", access


def _drivers() -> dict[tuple[str, int], str]:
    """Return the names of majors. proc_devices(5)"""
    found: dict[tuple[str, int], str] = {}
    kind = "c"
    for line in read_or("/proc/devices", "").splitlines():
        number, _, name = line.strip().partition(" ")
        if line.startswith("Block"):
            kind = "b"
        elif number.isdecimal():
            found.setdefault((kind, int(number)), name)
    return found
