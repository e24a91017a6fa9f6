"""What is to be measured, how often, and beside whom."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from orlop.errors import InvalidArgumentError

PEERS = ("docker", "podman", "ctr", "runc", "crun", "orlop-runtime", "orlop-command", "floor")
#: Above these a typing error would keep a machine busy for days.
_MOST = {
    "rounds": 1_000,
    "wave": 100_000,
    "starts": 100_000,
    "limit": 1_000,
    "live": 20_000,
    "peer_density": 2_000,
    "soak": 1_000_000,
}
_MOST_CLIENTS = 1_000


@dataclass(frozen=True, kw_only=True)
class BenchPlan:
    """Counts are of one driver, unless they say otherwise."""

    parts: tuple[str, ...] = ()  # all that are known, where there is none
    peers: tuple[str, ...] = PEERS
    start_peers: bool = False  # dockerd and containerd, where they do not run
    rounds: int = 3  # of the part concurrency
    clients: tuple[int, ...] = (1, 16, 100)
    wave: int = 200  # starts in a round; a tenth of it for peers
    starts: int = 100  # one after the other, for a percentile
    limit: int = 16  # peers' clients at most
    live: int = 1_000
    peer_density: int = 20
    soak: int = 2_000
    settings: Mapping[str, str] = field(default_factory=dict)  # of single parts
    folder: str = "/var/tmp"  # where engines' state goes
    run_folder: str = "/run"  # where sockets and the like go, in memory as a rule

    def __post_init__(self) -> None:
        check_known("peer", self.peers, PEERS)
        for name, most in _MOST.items():
            _within(name, getattr(self, name), most)
        for count in self.clients:
            _within("clients", count, _MOST_CLIENTS)


def check_known(kind: str, given: Iterable[str], known: Iterable[str]) -> None:
    """InvalidArgumentError where a name is not among those that are known."""
    for name in given:
        if name not in known:
            raise InvalidArgumentError(f"no {kind} {name!r}", hint=f"one of {', '.join(known)}")


def _within(name: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        option = name.replace("_", "-")
        raise InvalidArgumentError(f"invalid --{option} {value}", hint=f"1 to {most}")
