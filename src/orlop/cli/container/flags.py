"""The options that run and create share: what a container can be told to be."""

from __future__ import annotations

from orlop.cli import values
from orlop.cli.options import (
    CONTAINER,
    FILE,
    IMAGE,
    NETWORK,
    Command,
    flag,
    maybe_text,
    number,
    operand,
    operands,
    text,
    texts,
)
from orlop.model.durations import parse_duration_ns
from orlop.model.sizes import parse_size

_PROCESS = "The process"
_FILES = "Files"
_LIMITS = "Limits"
_ISOLATION = "Isolation"
_NETWORK = "Network"
_LIFE = "Life"
_HEALTH = "Health"


class ContainerArguments(Command):
    interspersed = False  # what follows the image is the container's own command line

    name = text("--name", metavar="NAME", help="name it (default: a made-up name)")
    cidfile = text(
        "--cidfile", metavar="FILE", help="write its id to FILE, which must be new", completes=FILE
    )
    label = texts("-l", "--label", metavar="KEY=VALUE", help="attach a label")
    label_file = texts(
        "--label-file", metavar="FILE", help="attach the labels in FILE, one a line", completes=FILE
    )
    annotation = texts("--annotation", metavar="KEY=VALUE", help="attach an OCI annotation")
    platform = text("--platform", metavar="OS/ARCH", help="choose the image's platform")
    pull = text(
        "--pull",
        metavar="WHEN",
        default="missing",
        choices=("always", "missing", "never"),
        help="fetch the image: always, missing or never (default: missing)",
    )
    quiet = flag("-q", "--quiet", help="no progress while fetching the image")

    interactive = flag("-i", "--interactive", help="keep its input open", group=_PROCESS)
    tty = flag("-t", "--tty", help="give it a terminal (with -i: yours)", group=_PROCESS)
    attach = texts(
        "-a", "--attach", metavar="STREAM", help="attach stdin, stdout or stderr", group=_PROCESS
    )
    env = texts(
        "-e",
        "--env",
        metavar="KEY[=VALUE]",
        help="set a variable, or hand on your own",
        group=_PROCESS,
    )
    env_file = texts(
        "--env-file",
        metavar="FILE",
        help="set the variables in FILE, one a line",
        group=_PROCESS,
        completes=FILE,
    )
    user = text("-u", "--user", metavar="USER[:GROUP]", help="run as, name or id", group=_PROCESS)
    group_add = texts("--group-add", metavar="GROUP", help="be in this group too", group=_PROCESS)
    workdir = text("-w", "--workdir", metavar="FOLDER", help="start in FOLDER", group=_PROCESS)
    entrypoint = maybe_text(
        "--entrypoint", metavar="COMMAND", help="run this in place of the image's", group=_PROCESS
    )
    init = flag("--init", help="put a small init in front, which reaps", group=_PROCESS)

    volume = texts(
        "-v",
        "--volume",
        metavar="SOURCE:TARGET[:OPTIONS]",
        help="mount a host path or a volume; options: ro, z, propagation",
        group=_FILES,
        completes=FILE,
    )
    mount = texts(
        "--mount",
        metavar="type=…,source=…,target=…",
        help="mount, with everything spelled out",
        group=_FILES,
    )
    tmpfs = texts(
        "--tmpfs", metavar="TARGET[:OPTIONS]", help="mount an empty folder in memory", group=_FILES
    )
    volumes_from = texts(
        "--volumes-from",
        metavar="CONTAINER[:ro]",
        help="mount what that container mounts",
        group=_FILES,
        completes=CONTAINER,
    )
    volume_driver = text(
        "--volume-driver", metavar="NAME", help="driver for new volumes", group=_FILES
    )
    read_only = flag("--read-only", help="make its root read-only", group=_FILES)
    storage_opt = texts(
        "--storage-opt",
        metavar="size=SIZE",
        help="the most that its writable layer may take, such as 10g",
        group=_FILES,
    )
    shm_size = number(
        "--shm-size",
        metavar="SIZE",
        help="size of /dev/shm (default: 64m)",
        group=_FILES,
        convert=parse_size,
    )
    device = texts(
        "--device",
        metavar="HOST[:TARGET[:rwm]]",
        help="give it a device of the host",
        group=_FILES,
        completes=FILE,
    )

    memory = number(
        "-m",
        "--memory",
        metavar="SIZE",
        help="most memory, such as 512m",
        group=_LIMITS,
        convert=parse_size,
    )
    memory_swap = number(
        "--memory-swap",
        metavar="SIZE",
        help="memory and swap together; -1 for no limit on swap",
        group=_LIMITS,
        convert=values.size_or_unlimited,
    )
    memory_reservation = number(
        "--memory-reservation",
        metavar="SIZE",
        help="memory it keeps when memory is short",
        group=_LIMITS,
        convert=parse_size,
    )
    memory_swappiness = number("--memory-swappiness", help="0 to 100", group=_LIMITS)
    oom_kill_disable = flag(
        "--oom-kill-disable", help="let it wait for memory, not be killed", group=_LIMITS
    )
    oom_score_adj = number("--oom-score-adj", help="-1000 to 1000", group=_LIMITS)
    cpus = number("--cpus", help="processors, such as 1.5", group=_LIMITS, convert=values.cpus)
    cpu_shares = number(
        "-c", "--cpu-shares", help="weight on processors (default: 1024)", group=_LIMITS
    )
    cpu_period = number("--cpu-period", metavar="US", help="CFS period", group=_LIMITS)
    cpu_quota = number("--cpu-quota", metavar="US", help="CFS quota", group=_LIMITS)
    cpuset_cpus = text(
        "--cpuset-cpus", metavar="LIST", help="processors to use: 0-2,5", group=_LIMITS
    )
    cpuset_mems = text("--cpuset-mems", metavar="LIST", help="memory nodes to use", group=_LIMITS)
    pids_limit = number("--pids-limit", help="most processes; -1 for no limit", group=_LIMITS)
    ulimit = texts("--ulimit", metavar="NAME=SOFT[:HARD]", help="a resource limit", group=_LIMITS)
    blkio_weight = number("--blkio-weight", help="10 to 1000, 0 for none", group=_LIMITS)
    blkio_weight_device = texts(
        "--blkio-weight-device", metavar="DEVICE:WEIGHT", help="weight on a device", group=_LIMITS
    )
    device_read_bps = texts(
        "--device-read-bps", metavar="DEVICE:SIZE", help="bytes read a second", group=_LIMITS
    )
    device_write_bps = texts(
        "--device-write-bps", metavar="DEVICE:SIZE", help="bytes written a second", group=_LIMITS
    )
    device_read_iops = texts(
        "--device-read-iops", metavar="DEVICE:N", help="reads a second", group=_LIMITS
    )
    device_write_iops = texts(
        "--device-write-iops", metavar="DEVICE:N", help="writes a second", group=_LIMITS
    )
    cgroup_parent = text(
        "--cgroup-parent", metavar="PATH", help="parent of its cgroup", group=_LIMITS
    )

    cap_add = texts("--cap-add", metavar="NAME", help="add a capability, or ALL", group=_ISOLATION)
    cap_drop = texts(
        "--cap-drop", metavar="NAME", help="drop a capability, or ALL", group=_ISOLATION
    )
    security_opt = texts(
        "--security-opt",
        metavar="OPTION",
        help="no-new-privileges, seccomp=FILE, seccomp=unconfined, …",
        group=_ISOLATION,
    )
    runtime = text(
        "--runtime",
        metavar="NAME",
        help='"vm": in a virtual machine of its own (see: orlop vm setup)',
        group=_ISOLATION,
    )
    privileged = flag("--privileged", help="give it all capabilities and devices", group=_ISOLATION)
    device_cgroup_rule = texts(
        "--device-cgroup-rule", metavar="RULE", help="such as 'c 1:3 rwm'", group=_ISOLATION
    )
    userns = text(
        "--userns",
        metavar="MODE",
        help="host, auto, FIRST:SIZE, or a NAME of /etc/subuid",
        group=_ISOLATION,
    )
    ipc = text(
        "--ipc", metavar="MODE", help="private, shareable, host or container:NAME", group=_ISOLATION
    )
    pid = text("--pid", metavar="MODE", help="host or container:NAME", group=_ISOLATION)
    uts = text("--uts", metavar="MODE", help="host: share the host's name", group=_ISOLATION)
    cgroupns = text("--cgroupns", metavar="MODE", help="private or host", group=_ISOLATION)
    sysctl = texts("--sysctl", metavar="KEY=VALUE", help="a kernel setting", group=_ISOLATION)
    gpus = text("--gpus", metavar="WHICH", help="not supported", group=_ISOLATION)

    network = texts(
        "--network",
        "--net",
        metavar="NETWORK",
        help="a network, name=…,alias=…,ip=…, none, host, container:NAME or ns:PATH",
        group=_NETWORK,
        completes=NETWORK,
    )
    network_alias = texts(
        "--network-alias",
        "--net-alias",
        metavar="NAME",
        help="another name of it there",
        group=_NETWORK,
    )
    ip = text("--ip", metavar="IP", help="its IPv4 address there", group=_NETWORK)
    ip6 = text("--ip6", metavar="IP", help="its IPv6 address there", group=_NETWORK)
    mac_address = text("--mac-address", metavar="MAC", help="its MAC address there", group=_NETWORK)
    link_local_ip = texts(
        "--link-local-ip", metavar="IP", help="a link-local address there", group=_NETWORK
    )
    link = texts(
        "--link",
        metavar="CONTAINER[:ALIAS]",
        help="know that container by a name",
        group=_NETWORK,
        completes=CONTAINER,
    )
    publish = texts(
        "-p",
        "--publish",
        metavar="[[IP:]PORT:]PORT[/PROTOCOL]",
        help="publish a port, or a range, on the host",
        group=_NETWORK,
    )
    publish_all = flag(
        "-P", "--publish-all", help="publish all exposed ports on free ones", group=_NETWORK
    )
    expose = texts(
        "--expose", metavar="PORT[/PROTOCOL]", help="expose a port, or a range", group=_NETWORK
    )
    bandwidth = text(
        "--bandwidth",
        metavar="in=RATE,out=RATE",
        help="most it may receive and send: in=10mbit,out=1gbit",
        group=_NETWORK,
    )
    egress = texts(
        "--egress",
        metavar="[PROTOCOL:]WHERE[:PORT]",
        help="may send there and nowhere else: address, range or name; none: nowhere",
        group=_NETWORK,
    )
    hostname = text("-h", "--hostname", metavar="NAME", help="its host name", group=_NETWORK)
    domainname = text("--domainname", metavar="NAME", help="its NIS domain", group=_NETWORK)
    add_host = texts(
        "--add-host",
        metavar="NAME:IP",
        help="add to /etc/hosts; host-gateway is this machine",
        group=_NETWORK,
    )
    dns = texts("--dns", metavar="IP", help="a name server", group=_NETWORK)
    dns_search = texts("--dns-search", metavar="DOMAIN", help="a search domain", group=_NETWORK)
    dns_option = texts(
        "--dns-option", "--dns-opt", metavar="OPTION", help="for resolv.conf", group=_NETWORK
    )

    restart = text(
        "--restart",
        metavar="POLICY",
        default="no",
        help="no, always, unless-stopped or on-failure[:N]",
        group=_LIFE,
    )
    rm = flag("--rm", help="remove it when it stops", group=_LIFE)
    stop_signal = text("--stop-signal", metavar="SIGNAL", help="what stop sends", group=_LIFE)
    stop_timeout = number(
        "--stop-timeout", metavar="S", help="seconds that stop waits (default: 10)", group=_LIFE
    )
    log_driver = text(
        "--log-driver",
        metavar="NAME",
        help="json-file, local, syslog, journald, fluentd or none",
        group=_LIFE,
    )
    log_opt = texts(
        "--log-opt", metavar="KEY=VALUE", help="max-size=20m, max-file=5, tag=NAME", group=_LIFE
    )

    health_cmd = maybe_text(
        "--health-cmd", metavar="COMMAND", help="a command that tells health", group=_HEALTH
    )
    health_interval = number(
        "--health-interval",
        metavar="TIME",
        help="how often",
        group=_HEALTH,
        convert=parse_duration_ns,
    )
    health_timeout = number(
        "--health-timeout",
        metavar="TIME",
        help="how long it may take",
        group=_HEALTH,
        convert=parse_duration_ns,
    )
    health_start_period = number(
        "--health-start-period",
        metavar="TIME",
        help="grace after the start",
        group=_HEALTH,
        convert=parse_duration_ns,
    )
    health_start_interval = number(
        "--health-start-interval",
        metavar="TIME",
        help="how often in that time",
        group=_HEALTH,
        convert=parse_duration_ns,
    )
    health_retries = number("--health-retries", help="failures that count", group=_HEALTH)
    no_healthcheck = flag("--no-healthcheck", help="ignore the image's check", group=_HEALTH)

    image = operand("IMAGE", completes=IMAGE)
    command = operands("COMMAND", optional=True)
