"""From -v, --mount, --tmpfs and --device to the API's mounts and devices. All pure.

ValueError says what was expected where.
"""

from __future__ import annotations

from orlop.cli import values
from orlop.model.sizes import parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TYPES = ("bind", "volume", "tmpfs")
_PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")
_SPELLINGS = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
}


def volumes(given: list[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Return (binds, anonymous volumes) for -v options."""
    binds = []
    anonymous: dict[str, dict[str, str]] = {}
    for value in given:
        source, colon, rest = value.partition(":")
        if not colon:
            anonymous[_absolute_target(value, option="-v")] = {}
            continue
        target = rest.partition(":")[0]
        if not source:
            raise ValueError(f"invalid volume {value!r}: the source is empty")
        _absolute_target(target, option="-v")
        binds.append(f"{_host_path(source)}:{rest}")
    return binds, anonymous


def _host_path(source: str) -> str:
    """Make a path absolute; a name without a slash is a volume's."""
    if source in (".", "..", "~") or source.startswith(("./", "../", "~/")):
        from os.path import abspath, expanduser  # rare, and slow to import

        return abspath(expanduser(source))
    return source


def _absolute_target(target: str, *, option: str) -> str:
    if not target.startswith("/"):
        raise ValueError(f"invalid {option} target {target!r}: expected an absolute path")
    return target


def tmpfs(given: list[str]) -> dict[str, str]:
    """Return target -> options."""
    result = {}
    for value in given:
        target, _, options = value.partition(":")
        result[_absolute_target(target, option="--tmpfs")] = options
    return result


def mount(value: str) -> dict[str, Any]:
    """Return one --mount as the API has it. Docker's "Mount" object."""
    made: dict[str, Any] = {"Type": "volume"}
    for field in _fields(value):
        key, equals, rest = field.partition("=")
        key = _SPELLINGS.get(key.strip().lower(), key.strip().lower())
        try:
            _apply(made, key, rest if equals else "true")
        except KeyError:
            raise ValueError(f"invalid --mount: unexpected key {key!r} in {value!r}") from None
        except ValueError as error:
            raise ValueError(f"invalid --mount {value!r}: {key}: {error}") from None
    return _checked(made, value)


def _fields(value: str) -> list[str]:
    """Split at commas, except within double quotes (CSV, as Docker)."""
    fields, current, quoted = [], "", False
    for letter in value:
        if letter == '"':
            quoted = not quoted
        elif letter == "," and not quoted:
            fields.append(current)
            current = ""
        else:
            current += letter
    return [*fields, current]


def _apply(made: dict[str, Any], key: str, value: str) -> None:
    setters = {"bind": _bind, "volume": _volume, "tmpfs": _tmpfs}
    prefix, dash, rest = key.partition("-")
    if dash and prefix in setters:
        setters[prefix](made.setdefault(f"{prefix.capitalize()}Options", {}), rest, value)
    elif key == "type":
        if value not in _TYPES:
            raise ValueError(f"expected one of {', '.join(_TYPES)}")
        made["Type"] = value
    elif key == "readonly":
        made["ReadOnly"] = _boolean(value)
    elif key == "source":
        made["Source"] = _host_path(value)
    elif key == "target":
        made["Target"] = value
    elif key == "consistency":
        made["Consistency"] = value
    else:
        raise KeyError(key)


def _bind(options: dict[str, Any], key: str, value: str) -> None:
    if key == "propagation":
        if value not in _PROPAGATIONS:
            raise ValueError(f"expected one of {', '.join(_PROPAGATIONS)}")
        options["Propagation"] = value
    elif key == "nonrecursive":
        options["NonRecursive"] = _boolean(value)
    elif key == "recursive":
        settings = {
            "enabled": {},
            "disabled": {"NonRecursive": True},
            "writable": {"ReadOnlyNonRecursive": True},
            "readonly": {"ReadOnlyForceRecursive": True},
        }
        if value not in settings:
            raise ValueError(f"expected one of {', '.join(settings)}")
        options.update(settings[value])
    elif key == "create-src":
        options["CreateMountpoint"] = _boolean(value)
    else:
        raise KeyError(f"bind-{key}")


def _volume(options: dict[str, Any], key: str, value: str) -> None:
    driver = options.setdefault("DriverConfig", {}) if key in ("driver", "opt") else {}
    if key == "nocopy":
        options["NoCopy"] = _boolean(value)
    elif key == "subpath":
        options["Subpath"] = value
    elif key == "label":
        options.setdefault("Labels", {}).update([values.key_value(value)])
    elif key == "driver":
        driver["Name"] = value
    elif key == "opt":
        driver.setdefault("Options", {}).update([values.key_value(value)])
    else:
        raise KeyError(f"volume-{key}")


def _tmpfs(options: dict[str, Any], key: str, value: str) -> None:
    if key == "size":
        options["SizeBytes"] = parse_size(value)
    elif key == "mode":
        try:
            options["Mode"] = int(value, 8)
        except ValueError:
            raise ValueError("expected an octal mode such as 1777") from None
    else:
        raise KeyError(f"tmpfs-{key}")


def _boolean(value: str) -> bool:
    if value.lower() in ("true", "1", "t"):
        return True
    if value.lower() in ("false", "0", "f"):
        return False
    raise ValueError("expected true or false")


def _checked(made: dict[str, Any], value: str) -> dict[str, Any]:
    if not made.get("Target"):
        raise ValueError(f"invalid --mount {value!r}: target is missing")
    if made["Type"] == "bind" and not made.get("Source"):
        raise ValueError(f"invalid --mount {value!r}: source is missing")
    for kind in _TYPES:
        if f"{kind.capitalize()}Options" in made and made["Type"] != kind:
            raise ValueError(f"invalid --mount {value!r}: {kind}-… with type={made['Type']}")
    return made


def device(value: str) -> dict[str, str]:
    """Return one --device HOST[:TARGET[:rwm]] as the API has it."""
    host, *rest = value.split(":")
    target, access = host, "rwm"
    if len(rest) == 1 and _is_access(rest[0]):
        access = rest[0]
    elif rest:
        target = rest[0] or host
        access = rest[1] if len(rest) > 1 else access
    if not host or len(rest) > 2 or not _is_access(access):
        raise ValueError(f"invalid --device {value!r}: expected HOST[:TARGET[:rwm]]")
    return {"PathOnHost": host, "PathInContainer": target, "CgroupPermissions": access}


def _is_access(text: str) -> bool:
    return bool(text) and len(set(text)) == len(text) and set(text) <= set("rwm")
