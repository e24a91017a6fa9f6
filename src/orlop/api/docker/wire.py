"""Request bodies as Docker's clients send them (Engine API, "definitions").

Every field may be absent or null, because Go writes null for empty values; unknown fields are
ignored. parse_*.py convert them to the engine's own values.
"""

from typing import Any, TypeVar

import msgspec

from orlop.api.messages import Request
from orlop.errors import InvalidArgumentError

#: The maximum size of a JSON document from a client.
MAX_JSON_BYTES = 8 << 20

T = TypeVar("T")
Words = str | list[str]  # Go's strslice: a single word may come without its list


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Names on the wire are Go's: UpperCamelCase."""


class Healthcheck(Wire, frozen=True, kw_only=True):
    test: list[str] | None = None
    interval: int | None = None
    timeout: int | None = None
    start_period: int | None = None
    start_interval: int | None = None
    retries: int | None = None


class LogConfig(Wire, frozen=True, kw_only=True):
    type: str | None = None
    config: dict[str, str] | None = None


class RestartPolicy(Wire, frozen=True, kw_only=True):
    name: str | None = None
    maximum_retry_count: int | None = None


class PortBinding(Wire, frozen=True, kw_only=True):
    host_ip: str | None = None
    host_port: str | None = None


class EndpointIPAM(Wire, frozen=True, kw_only=True):
    """IPAMConfig of EndpointSettings."""

    ipv4_address: str | None = msgspec.field(default=None, name="IPv4Address")
    ipv6_address: str | None = msgspec.field(default=None, name="IPv6Address")
    link_local_ips: list[str] | None = msgspec.field(default=None, name="LinkLocalIPs")


class EndpointSettings(Wire, frozen=True, kw_only=True):
    ipam_config: EndpointIPAM | None = msgspec.field(default=None, name="IPAMConfig")
    links: list[str] | None = None
    aliases: list[str] | None = None
    mac_address: str | None = None
    driver_opts: dict[str, str] | None = None
    gw_priority: int | None = None  # API 1.48


class NetworkingConfig(Wire, frozen=True, kw_only=True):
    endpoints_config: dict[str, EndpointSettings | None] | None = None


class Bandwidth(Wire, frozen=True, kw_only=True):
    """Our own, in the terms of CNI's bandwidth capability: bits, and bits per second."""

    ingress_rate: int | None = None
    ingress_burst: int | None = None
    egress_rate: int | None = None
    egress_burst: int | None = None


class WeightDevice(Wire, frozen=True, kw_only=True):
    path: str
    weight: int


class ThrottleDevice(Wire, frozen=True, kw_only=True):
    path: str
    rate: int


class DeviceMapping(Wire, frozen=True, kw_only=True):
    path_on_host: str
    path_in_container: str | None = None
    cgroup_permissions: str | None = None


class Ulimit(Wire, frozen=True, kw_only=True):
    name: str
    hard: int | None = None
    soft: int | None = None


class BindOptions(Wire, frozen=True, kw_only=True):
    propagation: str | None = None
    non_recursive: bool | None = None
    create_mountpoint: bool | None = None


class DriverConfig(Wire, frozen=True, kw_only=True):
    name: str | None = None
    options: dict[str, str] | None = None


class VolumeOptions(Wire, frozen=True, kw_only=True):
    no_copy: bool | None = None
    labels: dict[str, str] | None = None
    driver_config: DriverConfig | None = None
    subpath: str | None = None


class TmpfsOptions(Wire, frozen=True, kw_only=True):
    size_bytes: int | None = None
    mode: int | None = None


class Mount(Wire, frozen=True, kw_only=True):
    type: str | None = None
    source: str | None = None
    target: str | None = None
    read_only: bool | None = None
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class Resources(Wire, frozen=True, kw_only=True):
    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    nano_cpus: int | None = None
    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpu_realtime_period: int | None = None
    cpu_realtime_runtime: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids_limit: int | None = None
    blkio_weight: int | None = None
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = msgspec.field(
        default=None, name="BlkioDeviceReadIOps"
    )
    blkio_device_write_iops: list[ThrottleDevice] | None = msgspec.field(
        default=None, name="BlkioDeviceWriteIOps"
    )
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[dict[str, Any]] | None = None  # refused; only their presence counts
    ulimits: list[Ulimit] | None = None
    cgroup_parent: str | None = None


class Update(Resources, frozen=True, kw_only=True):
    """POST /containers/{id}/update."""

    restart_policy: RestartPolicy | None = None


class HostConfig(Resources, frozen=True, kw_only=True):
    binds: list[str] | None = None
    log_config: LogConfig | None = None
    network_mode: str | None = None
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    publish_all_ports: bool | None = None
    bandwidth: Bandwidth | None = None
    egress: list[str] | None = None  # ours: the only allowed destinations; [] for none
    restart_policy: RestartPolicy | None = None
    auto_remove: bool | None = None
    console_size: list[int] | None = None
    volume_driver: str | None = None
    volumes_from: list[str] | None = None
    mounts: list[Mount] | None = None
    annotations: dict[str, str] | None = None
    cap_add: Words | None = None
    cap_drop: Words | None = None
    cgroupns_mode: str | None = None
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str | None = None
    links: list[str] | None = None
    oom_score_adj: int | None = None
    pid_mode: str | None = None
    privileged: bool | None = None
    readonly_rootfs: bool | None = None
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str | None = msgspec.field(default=None, name="UTSMode")
    userns_mode: str | None = None
    shm_size: int | None = None
    sysctls: dict[str, str] | None = None
    runtime: str | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | None = None


class ContainerConfig(Wire, frozen=True, kw_only=True):
    hostname: str | None = None
    domainname: str | None = None
    user: str | None = None
    attach_stdin: bool | None = None
    attach_stdout: bool | None = None
    attach_stderr: bool | None = None
    exposed_ports: dict[str, Any] | None = None
    tty: bool | None = None
    open_stdin: bool | None = None
    stdin_once: bool | None = None
    env: list[str] | None = None
    cmd: Words | None = None
    healthcheck: Healthcheck | None = None
    image: str | None = None
    volumes: dict[str, Any] | None = None
    working_dir: str | None = None
    entrypoint: Words | None = None
    network_disabled: bool | None = None
    mac_address: str | None = None
    labels: dict[str, str] | None = None
    stop_signal: str | None = None
    stop_timeout: int | None = None


class Create(ContainerConfig, frozen=True, kw_only=True):
    """POST /containers/create."""

    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None


class ExecCreate(Wire, frozen=True, kw_only=True):
    """POST /containers/{id}/exec."""

    cmd: Words | None = None
    user: str | None = None
    env: list[str] | None = None
    working_dir: str | None = None
    privileged: bool | None = None
    tty: bool | None = None
    attach_stdin: bool | None = None
    attach_stdout: bool | None = None
    attach_stderr: bool | None = None
    detach_keys: str | None = None
    console_size: list[int] | None = None
    group: bool | None = None  # ours: it can be killed with everything it starts
    timeout: float | None = None  # ours: seconds, after which that happens


class ExecStart(Wire, frozen=True, kw_only=True):
    """POST /exec/{id}/start. ConsoleSize is height, width."""

    detach: bool | None = None
    tty: bool | None = None
    console_size: list[int] | None = None


class VolumeCreate(Wire, frozen=True, kw_only=True):
    """POST /volumes/create."""

    name: str | None = None
    driver: str | None = None
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class Pool(Wire, frozen=True, kw_only=True):
    """IPAMConfig of a network: one subnet."""

    subnet: str | None = None
    ip_range: str | None = msgspec.field(default=None, name="IPRange")
    gateway: str | None = None
    auxiliary_addresses: dict[str, str] | None = None
    aux_address: dict[str, str] | None = None  # the name before API 1.40


class IPAM(Wire, frozen=True, kw_only=True):
    driver: str | None = None
    options: dict[str, str] | None = None
    config: list[Pool] | None = None


class ConfigFrom(Wire, frozen=True, kw_only=True):
    network: str | None = None


class NetworkCreate(Wire, frozen=True, kw_only=True):
    """POST /networks/create. CheckDuplicate is always on."""

    name: str | None = None
    driver: str | None = None
    scope: str | None = None
    internal: bool | None = None
    attachable: bool | None = None
    ingress: bool | None = None
    config_only: bool | None = None
    config_from: ConfigFrom | None = None
    enable_ipv4: bool | None = msgspec.field(default=None, name="EnableIPv4")
    enable_ipv6: bool | None = msgspec.field(default=None, name="EnableIPv6")
    ipam: IPAM | None = msgspec.field(default=None, name="IPAM")
    options: dict[str, str] | None = None
    labels: dict[str, str] | None = None


class NetworkConnect(Wire, frozen=True, kw_only=True):
    """POST /networks/{id}/connect."""

    container: str | None = None
    endpoint_config: EndpointSettings | None = None


class NetworkDisconnect(Wire, frozen=True, kw_only=True):
    """POST /networks/{id}/disconnect."""

    container: str | None = None
    force: bool | None = None


class AuthConfig(msgspec.Struct, frozen=True, kw_only=True, rename="lower"):
    """X-Registry-Auth, and the body of POST /auth."""

    username: str | None = None
    password: str | None = None
    auth: str | None = None
    serveraddress: str | None = None
    identitytoken: str | None = None
    registrytoken: str | None = None


async def read_json(request: Request, kind: type[T]) -> T:
    """Decode the request's body as a *kind*; an empty body is an empty object.

    The request must declare JSON, which a browser does not send to another site without asking.
    """
    data = await request.body.read(MAX_JSON_BYTES)
    given = request.headers.get("content-type", "")
    if data and given.partition(";")[0].strip().lower() != "application/json":
        raise InvalidArgumentError(
            f"unsupported Content-Type header ({given[:100]}): must be 'application/json'"
        )
    return decode(data or b"{}", kind)


def decode(data: bytes, kind: type[T], *, what: str = "request body") -> T:
    """Decode JSON; InvalidArgumentError with a sentence that names the field."""
    try:
        return msgspec.json.decode(data if data != b"null" else b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise InvalidArgumentError(f"invalid {what}: {_sentence(str(error))}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidArgumentError(f"{what} is not JSON: {_sentence(str(error))}") from None


def _sentence(text: str) -> str:
    """Turn msgspec's "Expected `int | null`, got `str` - at `$.A.B`" into "A.B: expected …"."""
    said, _, place = text.partition(" - at `$")
    said = said.replace(" | null", "").replace("`", "")
    said = said if said[:4].isupper() else said[:1].lower() + said[1:]  # "JSON is malformed"
    place = place.rstrip("`").lstrip(".")
    return f"{place}: {said}" if place else said
