"""Where an engine keeps its things, and how it behaves."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from orlop.errors import InvalidArgumentError
from orlop.layers.budget import DEFAULT, Budget, parse_budget
from orlop.model.sizes import parse_size

DEFAULT_ROOT = Path("/var/lib/orlop")
DEFAULT_RUN = Path("/run/orlop")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One engine's settings; two engines with different roots and runs do not meet."""

    root: Path = DEFAULT_ROOT  # survives a reboot
    run: Path = DEFAULT_RUN  # lost with a reboot: sockets, bundles, exit statuses
    snapshotter: str | None = None  # None: the best this host can do
    labels: tuple[str, ...] = ()
    debug: bool = False
    layer_budget: Budget = DEFAULT  # the most that one layer of an image may ask for
    container_disk_bytes: int = 0  # that a container may write unless it says; 0: no limit
    cni_configurations: Path | None = Path("/etc/cni/net.d")  # None: pods are on our own network
    cni_plugins: tuple[str, ...] = ("/opt/cni/bin", "/usr/lib/cni")
    metrics: str = ""  # HOST:PORT at which Prometheus finds them, too; "" for none

    @property
    def api_socket(self) -> Path:
        return self.run / "orlop.sock"

    @property
    def direct_socket(self) -> Path:
        """Where clients start sandboxes with streams of their own: api/direct.py."""
        return self.run / "sandboxes.sock"

    @property
    def cri_socket(self) -> Path:
        """Where a kubelet connects: api/cri."""
        return self.run / "cri.sock"

    @property
    def containerd_socket(self) -> Path:
        """Where containerd's clients connect: api/containerd."""
        return self.run / "containerd.sock"

    @property
    def shim_socket(self) -> Path:
        return self.run / "shim.sock"

    @property
    def stdio_socket(self) -> Path:
        return self.run / "stdio.sock"

    @property
    def exits(self) -> Path:
        return self.run / "exits"

    @property
    def lock_file(self) -> Path:
        return self.run / "engine.lock"

    @property
    def network_mark(self) -> Path:
        """There while devices or rules of this engine may be on the machine."""
        return self.run / "network"

    @property
    def bundles(self) -> Path:
        return self.run / "containers"

    @property
    def content(self) -> Path:
        return self.root / "content"

    @property
    def builds(self) -> Path:
        """Folders of running builds."""
        return self.root / "builds"

    @property
    def build_caches(self) -> Path:
        """Folders of cache mounts."""
        return self.root / "build-caches"

    @property
    def build_secrets(self) -> Path:
        """Files of secret mounts, while their command runs."""
        return self.run / "build-secrets"

    @property
    def metadata(self) -> Path:
        return self.root / "metadata.db"

    @property
    def snapshots(self) -> Path:
        return self.root / "snapshots"

    @property
    def containers(self) -> Path:
        return self.root / "containers"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"


def from_environment(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings that ORLOP_ROOT, ORLOP_RUN, ORLOP_METRICS … ask for."""
    environment = os.environ if environment is None else environment
    return Settings(
        root=_folder(environment, "ORLOP_ROOT", DEFAULT_ROOT),
        run=_folder(environment, "ORLOP_RUN", DEFAULT_RUN),
        snapshotter=environment.get("ORLOP_SNAPSHOTTER") or None,
        layer_budget=parse_budget(environment.get("ORLOP_LAYER_BUDGET", "")),
        container_disk_bytes=_size(environment, "ORLOP_CONTAINER_DISK"),
        debug=bool(environment.get("ORLOP_DEBUG")),
        cni_configurations=None
        if environment.get("ORLOP_CNI_CONF") == "none"
        else _folder(environment, "ORLOP_CNI_CONF", Path("/etc/cni/net.d")),
        cni_plugins=_folders(environment, "ORLOP_CNI_PLUGINS", ("/opt/cni/bin", "/usr/lib/cni")),
        metrics=environment.get("ORLOP_METRICS", ""),
    )


def _size(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    try:
        return parse_size(text) if text else 0
    except ValueError as error:
        raise InvalidArgumentError(f"{name} is {text!r}", hint=str(error)) from None


def _folders(
    environment: Mapping[str, str], name: str, default: tuple[str, ...]
) -> tuple[str, ...]:
    """Return absolute paths, separated by colons."""
    words = tuple(filter(None, environment.get(name, "").split(":")))
    for word in words:
        if not Path(word).is_absolute():
            raise InvalidArgumentError(f"{name} has {word!r}", hint="it must be an absolute path")
    return words or default


def _folder(environment: Mapping[str, str], name: str, default: Path) -> Path:
    text = environment.get(name)
    if not text:
        return default
    path = Path(text)
    if not path.is_absolute():
        raise InvalidArgumentError(f"{name} is {text!r}", hint="it must be an absolute path")
    return path
