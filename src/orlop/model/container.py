"""A container: what was asked for, what it is now, and which step leads where.

Every value here is written to the metadata store as JSON and read back, so a
field added later needs a default. Sizes are bytes, times nanoseconds since the
epoch, unless the name says otherwise.
"""

import enum
from collections.abc import Mapping
from typing import Literal

import msgspec

from orlop.errors import WrongStateError
from orlop.model import oci
from orlop.model.network import Bandwidth, Endpoint, EndpointOptions, PortMapping
from orlop.model.timeline import Step as Taken


class Status(enum.StrEnum):
    """Where a container is in its life; the values are Docker's."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"  # stopped, and to be started again by its restart policy
    EXITED = "exited"
    REMOVING = "removing"
    DEAD = "dead"  # removal failed part-way; only removal may be tried again


class Step(enum.StrEnum):
    """What moves a container from one status to the next."""

    START = "start"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    EXIT = "exit"
    RETRY = "retry"
    GIVE_UP = "give up on"
    REMOVE = "remove"
    BURY = "bury"


#: Which step leads where, and from where. What is not here is refused.
MOVES: Mapping[Step, Mapping[Status, Status]] = {
    Step.START: {
        Status.CREATED: Status.RUNNING,
        Status.EXITED: Status.RUNNING,
        Status.RESTARTING: Status.RUNNING,
    },
    Step.PAUSE: {Status.RUNNING: Status.PAUSED},
    Step.UNPAUSE: {Status.PAUSED: Status.RUNNING},
    Step.EXIT: {Status.RUNNING: Status.EXITED, Status.PAUSED: Status.EXITED},
    Step.RETRY: {Status.EXITED: Status.RESTARTING},
    Step.GIVE_UP: {Status.RESTARTING: Status.EXITED},
    Step.REMOVE: {
        Status.CREATED: Status.REMOVING,
        Status.EXITED: Status.REMOVING,
        Status.RESTARTING: Status.REMOVING,
        Status.DEAD: Status.REMOVING,
    },
    Step.BURY: {Status.REMOVING: Status.DEAD},
}


class Value(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A value that is stored as JSON; a changed one is a new one (msgspec.structs.replace)."""


class Ulimit(Value, frozen=True, kw_only=True):
    name: str  # without RLIMIT_, lower case: "nofile"
    soft: int
    hard: int


class DeviceMapping(Value, frozen=True, kw_only=True):
    host_path: str
    container_path: str
    access: str = "rwm"


class ThrottleDevice(Value, frozen=True, kw_only=True):
    path: str
    rate: int


class WeightDevice(Value, frozen=True, kw_only=True):
    path: str
    weight: int


class Resources(Value, frozen=True, kw_only=True):
    """Ceilings. None leaves one alone; -1 lifts it where Docker says so."""

    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None  # memory and swap together; -1 for unlimited swap
    memory_reservation_bytes: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    nano_cpus: int | None = None
    cpu_shares: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    cpu_realtime_period_us: int | None = None
    cpu_realtime_runtime_us: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int | None = None
    hugepage_bytes: dict[str, int] = {}  # by size: "2MB"
    unified: dict[str, str] = {}  # files of cgroup v2
    blkio_weight: int | None = None
    blkio_weight_device: tuple[WeightDevice, ...] = ()
    read_bps: tuple[ThrottleDevice, ...] = ()
    write_bps: tuple[ThrottleDevice, ...] = ()
    read_iops: tuple[ThrottleDevice, ...] = ()
    write_iops: tuple[ThrottleDevice, ...] = ()
    devices: tuple[DeviceMapping, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()


class MountPoint(Value, frozen=True, kw_only=True):
    """A mount asked for with -v, --mount, --tmpfs or an image's VOLUME."""

    type: Literal["bind", "volume", "tmpfs"]
    target: str
    source: str = ""  # host path for bind, volume name for volume ("" = anonymous)
    read_only: bool = False
    read_only_top: bool = False  # bind: what is mounted below it is left as it is
    propagation: str = ""  # bind: rprivate (default), rslave, …
    non_recursive: bool = False
    create_host_path: bool = False  # -v makes a missing host folder, --mount does not
    no_copy: bool = False  # volume: do not fill an empty one from the image
    subpath: str = ""
    driver: str = ""
    driver_options: dict[str, str] = {}
    labels: dict[str, str] = {}
    tmpfs_size_bytes: int | None = None
    tmpfs_mode: int | None = None
    tmpfs_options: str = ""  # --tmpfs PATH:OPTIONS, as given
    from_mounts: bool = False  # tmpfs: asked for with --mount
    mode: str = ""  # the text after the last colon of -v, for inspect


class Health(Value, frozen=True, kw_only=True):
    """A health check; times in nanoseconds, 0 for the default."""

    test: tuple[str, ...] = ()  # ("NONE",) | ("CMD", …) | ("CMD-SHELL", text)
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    start_interval_ns: int = 0
    retries: int = 0


class RestartPolicy(Value, frozen=True, kw_only=True):
    name: Literal["no", "always", "unless-stopped", "on-failure"] = "no"
    maximum_retry_count: int = 0


class LogOptions(Value, frozen=True, kw_only=True):
    driver: str = "json-file"
    max_size_bytes: int = 20 << 20
    max_files: int = 5
    compress: bool = False  # files that are rotated away
    kept: bool = True  # in files; else they only go to the driver
    given: dict[str, str] = {}  # as the user wrote them
    path: str = ""  # of driver "cri": the host's path of the file, which the engine never removes


class ContainerOptions(Value, frozen=True, kw_only=True):
    """All that a create request can say, already parsed. Defaults are Docker's."""

    # the process; empty or None: what the image says
    image: str = ""
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    hostname: str = ""
    domainname: str = ""
    terminal: bool = False
    console_size: tuple[int, int] | None = None  # of the terminal at its start: height, width
    open_stdin: bool = False
    stdin_once: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    labels: dict[str, str] = {}
    stop_signal: str = ""
    stop_timeout_s: int | None = None
    health: Health | None = None
    exposed_ports: tuple[str, ...] = ()  # "80/tcp"
    volumes: tuple[str, ...] = ()  # targets of anonymous volumes
    network_disabled: bool = False
    # how it is held
    platform: str = ""
    auto_remove: bool = False
    restart: RestartPolicy = RestartPolicy()
    log: LogOptions = LogOptions()
    init: bool = False
    privileged: bool = False
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    #: Whether /etc/group adds groups: always, never, or ("") if the user is given without one.
    groups_policy: Literal["", "merge", "strict"] = ""
    oom_score_adj: int = 0
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    mounts: tuple[MountPoint, ...] = ()
    volumes_from: tuple[str, ...] = ()
    shm_size_bytes: int = 64 << 20
    disk_bytes: int | None = None  # that its writable layer may take; 0: no limit
    sysctls: dict[str, str] = {}
    #: "none", "default" or "bridge", "host", "container:ID", "pod:ID", "ns:PATH", or a network's
    #: name.
    #: That it is "none" where nothing is said is of records made before there were networks.
    network: str = "none"
    #: By name. Of a container that was made, all that it is on at its starts; of a request,
    #: the one of *network* may be missing.
    networks: dict[str, EndpointOptions] = {}
    mac_address: str = ""  # of the interface in *network*
    port_bindings: dict[str, tuple[tuple[str, str], ...]] = {}  # "80/tcp": (host IP, host port)
    publish_all: bool = False
    bandwidth: Bandwidth = Bandwidth()
    plugin_arguments: dict[str, str] = {}  # of a pod, for CNI plugins
    egress: tuple[str, ...] | None = None  # all that may be sent to: model/egress.py
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    ipc: str = ""  # "", private, shareable, host, none, container:NAME, pod:ID
    pid: str = ""  # "", host, container:NAME, pod:ID; of a pod: "pod" if its containers share one
    uts: str = ""  # "", host, pod:ID
    cgroupns: str = ""  # "", private, host
    userns: str = ""  # "", host, auto, FIRST:SIZE, or a NAME of /etc/subuid
    cgroup_parent: str = ""
    resources: Resources = Resources()
    annotations: dict[str, str] = {}
    runtime: str = ""  # as the client calls it: "vm" is a virtual machine, any other name our own
    owner: str = ""  # the process whose end is the container's: engine/owners.py
    expires_ns: int = 0  # when the engine ends it, whoever has it; 0 for never
    expires_boot: str = ""  # the same, by the machine's own time: engine/deadlines.py
    pod: str = ""  # id of the pod that it belongs to
    #: config.json, made by the client. It alone counts; other options only describe it.
    spec: bytes = b""
    request: bytes = b""  # what the API that made it wants to find again; the engine reads it not


class HealthResult(Value, frozen=True, kw_only=True):
    start_ns: int
    end_ns: int
    exit_code: int
    output: str


class HealthState(Value, frozen=True, kw_only=True):
    status: Literal["starting", "healthy", "unhealthy"] = "starting"
    failing_streak: int = 0
    log: tuple[HealthResult, ...] = ()  # the last five


class Container(Value, frozen=True, kw_only=True):
    """One container at one moment: a save is a whole save."""

    id: str  # 64 hex digits
    name: str
    options: ContainerOptions
    image: str  # digest of the image's config ("sha256:…"), or "host"
    image_name: str  # as the user wrote it
    created_ns: int
    status: Status = Status.CREATED
    path: str = ""  # argv[0] and the rest, resolved from options and image
    args: tuple[str, ...] = ()
    pid: int = 0
    started_ns: int = 0
    finished_ns: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    restart_count: int = 0
    stopped_by_user: bool = False  # unless-stopped and restart policies ask
    health: HealthState | None = None
    mounts: tuple[MountPoint, ...] = ()  # resolved: volumes have names, sources are host paths
    driver: str = ""  # snapshot driver
    layers: tuple[str, ...] = ()  # LayerKeys, bottom first
    snapshot: str = ""  # a client's, of its driver, that is the root; else the one named by the id
    rootfs: str = ""  # the host's folder that is the root, where no snapshot is
    log_path: str = ""
    recipe: str = ""  # of a sandbox: what it was started by, whose bundle is its own
    cgroup: str = ""  # path, where the id does not tell it
    endpoints: tuple[Endpoint, ...] = ()  # chosen at its start, empty when it is stopped
    ports: tuple[PortMapping, ...] = ()  # likewise
    plugged: tuple[str, ...] = ()  # of a pod: its addresses from CNI plugins, with prefixes
    moving: bool = False  # it is being connected or disconnected: endpoints may not be real yet
    is_pod: bool = False  # a pod: namespaces for containers, and no process

    @property
    def running(self) -> bool:
        """Whether there is a process: running or paused."""
        return self.status in (Status.RUNNING, Status.PAUSED)

    def check(self, step: Step) -> None:
        """Raise WrongStateError where MOVES has no such *step* from here."""
        if self.status not in MOVES[step]:
            raise WrongStateError(f"cannot {step} container {self.name}: it is {self.status}")

    def moved(self, step: Step) -> Status:
        """Return the status after *step*; WrongStateError if it may not be taken."""
        self.check(step)
        return MOVES[step][self.status]


class ExecOptions(Value, frozen=True, kw_only=True):
    """What a process to run in a running container is to be."""

    command: tuple[str, ...]
    user: str = ""
    environment: tuple[str, ...] = ()
    working_dir: str = ""
    privileged: bool = False
    terminal: bool = False
    console_size: tuple[int, int] | None = None  # of the terminal at its start: height, width
    attach_stdin: bool = False
    attach_stdout: bool = True
    attach_stderr: bool = True
    detach_keys: str = ""
    grouped: bool = False  # it and all that it starts can be killed together
    limit_s: float = 0.0  # after which it is killed, likewise; 0: never


class Exec(Value, frozen=True, kw_only=True):
    """A process asked for in a running container. Kept in memory; gone with its container."""

    id: str
    container: str
    options: ExecOptions
    process: oci.Process
    running: bool = False
    pid: int = 0
    exit_code: int | None = None
    finished_ns: int = 0
    last_pid: int = 0  # also of one that has ended
    usage: tuple[int, ...] = ()  # of one that is grouped, when it has ended: shim/usage.py
    timed_out: bool = False
    oom_killed: bool = False
    steps: tuple[Taken, ...] = ()  # of its start, where they were asked for


class Volume(Value, frozen=True, kw_only=True):
    name: str
    created_ns: int
    driver: str = "local"
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    anonymous: bool = False


class Event(Value, frozen=True, kw_only=True):
    """Something that happened; the words are Docker's (type, action, attributes)."""

    type: str  # container, pod, image, volume, network, daemon
    action: str
    id: str
    attributes: dict[str, str] = {}
    time_ns: int = 0
