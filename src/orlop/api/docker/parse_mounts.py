"""Parse the mounts and volumes of a create request: Docker's three forms to MountPoint."""

from orlop.api.docker import wire
from orlop.errors import InvalidArgumentError, UnsupportedError
from orlop.model.container import MountPoint

_PROPAGATIONS = frozenset(("private", "rprivate", "shared", "rshared", "slave", "rslave"))
#: SELinux relabelling and macOS consistency: accepted, but without effect.
_IGNORED_MODES = frozenset(("z", "Z", "consistent", "cached", "delegated", "default"))


def parse_mounts(host: wire.HostConfig) -> tuple[MountPoint, ...]:
    """Return all requested mounts; InvalidArgumentError if a target appears twice."""
    points = [parse_bind(text, driver=host.volume_driver or "") for text in host.binds or ()]
    points += [parse_mount(mount) for mount in host.mounts or ()]
    points += [
        MountPoint(type="tmpfs", target=_absolute(target), tmpfs_options=options)
        for target, options in (host.tmpfs or {}).items()
    ]
    seen = set()
    for point in points:
        if point.target in seen:
            raise InvalidArgumentError(f"duplicate mount point {point.target}")
        seen.add(point.target)
    return tuple(points)


def parse_bind(text: str, *, driver: str = "") -> MountPoint:
    """Parse -v's [SOURCE:]TARGET[:MODES]; a SOURCE without a leading slash is a volume's name."""
    parts = text.split(":")
    if len(parts) > 3 or not all(parts):
        raise InvalidArgumentError(
            f"invalid volume specification {text!r}", hint="expected [SOURCE:]TARGET[:OPTIONS]"
        )
    if len(parts) == 1:
        return MountPoint(type="volume", target=_absolute(parts[0]))
    source, target = parts[0], _absolute(parts[1])
    mode = parts[2] if len(parts) == 3 else ""
    read_only, no_copy, propagation = _modes(mode, text)
    if source.startswith("/"):
        return MountPoint(
            type="bind",
            source=source,
            target=target,
            read_only=read_only,
            propagation=propagation,
            create_host_path=True,
            mode=mode,
        )
    if propagation:
        raise InvalidArgumentError(f"invalid volume specification {text!r}: a volume has no {mode}")
    return MountPoint(
        type="volume",
        source=source,
        target=target,
        read_only=read_only,
        no_copy=no_copy,
        driver=_driver(driver),
        mode=mode,
    )


def _modes(mode: str, text: str) -> tuple[bool, bool, str]:
    """Return read-only, no copy and propagation."""
    read_only, no_copy, propagation = False, False, ""
    for word in mode.split(",") if mode else ():
        if word in ("ro", "rw"):
            read_only = word == "ro"
        elif word == "nocopy":
            no_copy = True
        elif word in _PROPAGATIONS:
            propagation = word
        elif word not in _IGNORED_MODES:
            raise InvalidArgumentError(f"invalid mode {word!r} in volume specification {text!r}")
    return read_only, no_copy, propagation


def parse_mount(mount: wire.Mount) -> MountPoint:
    """Parse an entry of HostConfig.Mounts (--mount)."""
    target = _absolute(mount.target or "")
    read_only = bool(mount.read_only)
    match mount.type:
        case "bind":
            return _bind(mount, target, read_only=read_only)
        case "volume":
            return _volume(mount, target, read_only=read_only)
        case "tmpfs":
            options = mount.tmpfs_options or wire.TmpfsOptions()
            if mount.source:
                raise InvalidArgumentError(f"a tmpfs mount has no source (at {target})")
            return MountPoint(
                type="tmpfs",
                target=target,
                read_only=read_only,
                tmpfs_size_bytes=options.size_bytes or None,
                tmpfs_mode=options.mode or None,
                from_mounts=True,
            )
    raise InvalidArgumentError(
        f"invalid mount type {mount.type or ''!r} for {target}",
        hint="expected bind, volume or tmpfs",
    )


def _bind(mount: wire.Mount, target: str, *, read_only: bool) -> MountPoint:
    options = mount.bind_options or wire.BindOptions()
    if not (mount.source or "").startswith("/"):
        raise InvalidArgumentError(
            f"invalid mount for {target}: the source of a bind mount must be an absolute path"
        )
    if options.propagation and options.propagation not in _PROPAGATIONS:
        raise InvalidArgumentError(f"invalid propagation {options.propagation!r} for {target}")
    return MountPoint(
        type="bind",
        source=mount.source or "",
        target=target,
        read_only=read_only,
        propagation=options.propagation or "",
        non_recursive=bool(options.non_recursive),
        create_host_path=bool(options.create_mountpoint),
    )


def _volume(mount: wire.Mount, target: str, *, read_only: bool) -> MountPoint:
    options = mount.volume_options or wire.VolumeOptions()
    driver = options.driver_config or wire.DriverConfig()
    return MountPoint(
        type="volume",
        source=mount.source or "",
        target=target,
        read_only=read_only,
        no_copy=bool(options.no_copy),
        subpath=options.subpath or "",
        driver=_driver(driver.name or ""),
        driver_options=driver.options or {},
        labels=options.labels or {},
    )


def _driver(name: str) -> str:
    if name not in ("", "local"):
        raise UnsupportedError(f"no volume driver {name!r}", hint="this build has: local")
    return name


def _absolute(target: str) -> str:
    if not target.startswith("/"):
        raise InvalidArgumentError(
            f"invalid mount target {target!r}", hint="it must be an absolute path"
        )
    return target
