"""From a container's record to the bundle that the shim starts."""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from orlop.engine.containers.files import (
    Addressing,
    container_files,
    forget_files,
    network_files,
    refresh_files,
    write_files,
)
from orlop.engine.containers.kind import bundle_of, kind_of
from orlop.engine.containers.logs import log_message
from orlop.engine.context import Context
from orlop.engine.joining import NAMES
from orlop.engine.networks import links, modes
from orlop.engine.records import short
from orlop.engine.spec import Given, cgroups_path, config
from orlop.engine.spec.idranges import mappings
from orlop.engine.volume_sources import folder_of
from orlop.errors import (
    InvalidArgumentError,
    NotFoundError,
    UnsupportedError,
    WrongStateError,
)
from orlop.model.container import Container, ContainerOptions, MountPoint
from orlop.model.image import Process
from orlop.model.mount import Mount
from orlop.model.oci import Config, OCIMount
from orlop.snapshots.interface import LayerKey
from orlop.store.faults import explained

_TRIES = 5
_INITS = ("/usr/bin/docker-init", "/sbin/docker-init", "/usr/bin/tini-static", "/usr/bin/tini")


class Bundles:
    """Bundles are on the run folder's tmpfs: made at create, made again after a reboot.

    A container can write to none of it: a full tmpfs would stop every later start.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    def path(self, container_id: str) -> Path:
        return self._context.settings.bundles / container_id

    def folder(self, container_id: str) -> Path:
        """Return where the container's logs are, and its hostname, hosts and resolv.conf."""
        return self._context.settings.containers / container_id

    def prepare(self, container: Container) -> None:
        """Have the bundle ready to start; made anew where it names what may have changed."""
        driver = self._context.snapshots.name
        if container.driver != driver and not container.options.spec:
            raise WrongStateError(
                f"container {container.name} is kept by snapshotter {container.driver},"
                f" and {driver} is in use",
                hint=f"start the engine with --snapshotter {container.driver}",
            )
        if (
            needs_others(container.options)
            or not (self.path(container.id) / "config.json").exists()
        ):
            self.write(container)

    def write(self, container: Container) -> None:
        """Write config.json; InvalidArgumentError for options that cannot be."""
        bundle = str(self.path(container.id))
        with explained(f"the bundle of container {container.name}"):
            if _make_folder(bundle):  # never made, or lost with a reboot
                forget_files(self.folder(container.id))
            _make_folder(f"{bundle}/rootfs")
        made = given_config(container) if container.options.spec else self._made(container)
        with explained(f"the bundle of container {container.name}"):
            with open(f"{bundle}/config.json~", "wb", buffering=0) as file:
                file.write(msgspec.json.encode(made))
            os.rename(f"{bundle}/config.json~", f"{bundle}/config.json")

    def _made(self, container: Container) -> Config:
        given = self._given(container)
        made = config(given)
        mounts = made.get("mounts", [])
        if given.uid_mappings:
            _map_ids(mounts, {*given.files, *_volume_targets(container)})
        made["mounts"] = [*self._base_mounts(container), *mounts]
        return made

    def renew(self, container: Container) -> None:
        """Have its next exec and its next start see that its links have changed."""
        if container.running:
            self.write(container)
        else:
            with suppress(FileNotFoundError):
                os.unlink(self.path(container.id) / "config.json")

    def refresh(self, container: Container, addressing: Addressing) -> bool:
        """Have hosts and resolv.conf say what it has on networks.

        Returns whether we are its name server.
        """
        if not kind_of(container).has_shared_files:
            return self.network_files(container, addressing)[0]
        folder, hostname = self.folder(container.id), self._hostname(container)
        return refresh_files(folder, container.options, hostname, addressing)

    def network_files(
        self, container: Container, addressing: Addressing
    ) -> tuple[bool, dict[str, str]]:
        """Return whether we are its name server, and what hosts and resolv.conf say at first."""
        return network_files(container.options, self._hostname(container), addressing)

    def read(self, container_id: str) -> Config:
        """Return the container's config.json; a sandbox's is that of its recipe."""
        records = self._context.records
        owner = bundle_of(records.get(container_id)) if records.has(container_id) else container_id
        path = self.path(owner) / "config.json"
        made: Config = msgspec.json.decode(path.read_bytes())
        return made

    def remove(self, container_id: str) -> None:
        """Remove bundle, logs and files; what is gone is no error."""
        for folder in (self.path(container_id), self.folder(container_id)):
            _remove_folder(folder)

    def start_message(self, container: Container) -> dict[str, Any]:
        """Return the shim's op "start" for a prepared container."""
        mounts = self._root(container)
        options = container.options
        return {
            "op": "start",
            "id": container.id,
            "bundle": str(self.path(container.id)),
            "rootfs": [[m.type, m.source, m.target, list(m.options)] for m in mounts],
            "io": {
                "terminal": options.terminal,
                "stdin": options.open_stdin,
                "stdin_once": options.stdin_once,
                "log": log_message(container, self.folder(container.id)),
            },
        }

    def _root(self, container: Container) -> Sequence[Mount]:
        if container.rootfs:
            return (Mount("bind", container.rootfs, "/", ("rbind",)),)
        driver, snapshot = self._context.snapshot_of(container)
        return driver.mounts(snapshot, layer_keys(container))

    def _base_mounts(self, container: Container) -> list[OCIMount]:
        """Return what the image has mounted inside its root: the machine's /usr, for `host`.

        In a user namespace it cannot be written to: the container's root may not
        even reach the folders of its writable half.
        """
        options = container.options
        fixed = options.read_only or options.userns not in ("", "host")
        mounts = self._context.snapshots.mounts(container.id, layer_keys(container), readonly=fixed)
        return [
            {
                "destination": mount.target,
                "type": mount.type,
                "source": mount.source,
                "options": [option.replace("lowerdir+=", "lowerdir=") for option in mount.options],
            }
            for mount in mounts
            if mount.target not in ("", "/")
        ]

    def _given(self, container: Container) -> Given:
        options = container.options
        uids, gids = mappings(options.userns)
        hostname = self._hostname(container)
        return Given(
            id=container.id,
            options=options,
            image=Process(),  # merged into the options when it was created
            hostname=hostname,
            mounts=tuple(self._source(mount) for mount in container.mounts),
            files=self._files(container, hostname),
            joined={
                kind: f"/proc/{owner.pid}/ns/{NAMES[kind]}"
                for kind, owner in self.joined(container).items()
            },
            uid_mappings=uids,
            gid_mappings=gids,
            linked=tuple(self._linked(container)),
            init=next((path for path in _INITS if os.access(path, os.X_OK)), ""),
        )

    def _files(self, container: Container, hostname: str) -> dict[str, str]:
        """Return them; who is in another's network has the files of the other, as its name."""
        other = self.network_owner(container)
        if other is not None:
            return container_files(self.folder(other.id))
        return write_files(self.folder(container.id), container.options, hostname)

    def files(self, container: Container) -> dict[str, str]:
        """Return host paths of its hostname, hosts and resolv.conf, by their paths in it."""
        owner = container
        with suppress(NotFoundError):  # the other has gone
            owner = self.network_owner(container) or container
        return container_files(self.folder(owner.id))

    def network_owner(self, container: Container) -> Container | None:
        """Return whose network it is in, where it joins another; that may join one, too.

        NotFoundError where there is no such container, WrongStateError where it is itself.
        """
        owner, seen = container, {container.id}
        while owner.options.network.startswith("container:"):
            owner = self._context.records.find(owner.options.network.partition(":")[2])
            if owner.id in seen:
                raise WrongStateError("cannot join own network")
            seen.add(owner.id)
        return owner if len(seen) > 1 else None

    def _hostname(self, container: Container) -> str:
        options = container.options
        other = self.network_owner(container)
        if other is not None:
            return self._hostname(other)
        if options.hostname:
            return options.hostname
        shares = "host" in (options.uts, options.network)
        return os.uname().nodename if shares else short(container.id)

    def _source(self, mount: MountPoint) -> MountPoint:
        """Return the mount with the host path of its volume."""
        if mount.type != "volume" or mount.driver_options:
            return mount
        return replace(mount, source=folder_of(mount, self._context.settings.volumes))

    def _linked(self, container: Container) -> Iterator[str]:
        """Return the environment variables that tell of linked containers, which must run."""
        if links.wanted(container.options):
            stored = self._context.metadata.networks.list()
            network = next((one.id for one in stored if one.name == modes.DEFAULT), "")
            for link in links.links_of(container, network, self._context.records):
                yield from links.variables(container, link)

    def joined(self, container: Container) -> dict[str, Container]:
        """Return whose namespaces it is to be in, by kind; they must run."""
        joined: dict[str, Container] = {}
        for option in NAMES if joins_others(container.options) else ():
            mode: str = getattr(container.options, option)
            if not mode.startswith("container:"):
                continue
            other = self._context.records.find(mode.partition(":")[2])
            if not kind_of(other).can_be_joined:
                raise UnsupportedError(f"cannot join {option} of a sandbox: {short(other.id)}")
            if not other.running:
                raise WrongStateError(
                    f"cannot join {option} of a non running container: {short(other.id)}"
                )
            if option == "ipc" and other.options.ipc not in ("shareable", "host"):
                raise InvalidArgumentError(
                    f"cannot join IPC of container {other.name}: non-shareable IPC",
                    hint='create it with --ipc "shareable"',
                )
            joined[option] = other
        return joined


def given_config(container: Container) -> Config:
    """Return the config.json that the container's client has made, with root and cgroup ours."""
    options = container.options
    made: Config = msgspec.json.decode(options.spec)
    made["root"] = {"path": "rootfs", "readonly": options.read_only}
    made["process"]["terminal"] = options.terminal
    made["linux"]["cgroupsPath"] = cgroups_path(options.cgroup_parent, container.id)
    return made


def _remove_folder(folder: Path) -> None:
    """Remove it, though a file of its log is being compressed; one that is gone is no error."""
    for left in reversed(range(_TRIES)):
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            if not folder.exists():
                return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not left:
                raise
        else:
            return


def _make_folder(path: str) -> bool:
    """Make the folder; return whether it was missing."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return False
    return True


def joins_others(options: ContainerOptions) -> bool:
    """Whether it shares a namespace with another container, which is known only at start."""
    return any(
        mode.startswith("container:") for mode in (options.ipc, options.pid, options.network)
    )


def needs_others(options: ContainerOptions) -> bool:
    """Whether its bundle depends on other containers, and so is made at each start."""
    return joins_others(options) or bool(links.wanted(options))


def layer_keys(container: Container) -> list[LayerKey]:
    return [LayerKey(key) for key in container.layers]


def _volume_targets(container: Container) -> list[str]:
    """Return where the volumes are mounted whose files the engine keeps."""
    mounts = container.mounts
    return [m.target for m in mounts if m.type == "volume" and not m.driver_options]


def _map_ids(mounts: list[OCIMount], targets: set[str]) -> None:
    """Show what is ours on the host, and root's on disk, as the container's root's."""
    for mount in mounts:
        if mount["destination"] in targets:
            mount["options"] = [*mount.get("options", []), "idmap"]
