"""Coexist with iptables and firewalld, whose rules refuse packets that ours allow.

Every table must allow a packet. So if the iptables filter has the policy DROP for forwarding
(docker and ufw set it), or firewalld is there, we add a chain with our bridges to it, and a
call of that chain: in DOCKER-USER, docker's chain for others, if it exists. Our own table
still refuses what we do not allow. With the last network, chain and call are removed.
"""

import errno
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from orlop.kernel.nftables import Nftables

_FIREWALLD = ("inet", "firewalld", "filter_FORWARD")
_PARENTS = ("DOCKER-USER", "FORWARD")
_ELSEWHERE = ("docker0", "docker_gwbridge", "br-")  # docker's bridges: docker's rules decide
_LEGACY = {"iptables-legacy": "ip_tables_names", "ip6tables-legacy": "ip6_tables_names"}
_PATIENCE_S = 10


class _Chain(NamedTuple):
    family: str
    table: str
    name: str
    policy: str = ""  # of a chain at a hook
    hook: str = ""


class Beside:
    """Our few rules in other tables; all of them have our *tag*."""

    def __init__(self, nft: Nftables, tag: str) -> None:
        self._nft = nft
        self._tag = tag

    def make_way(self, bridges: Sequence[str]) -> None:
        """Make other tables allow what *bridges* forward, if they refuse it; none: remove that."""
        chains = self._chains()
        for family in ("ip", "ip6"):
            there = {
                one.name: one for one in chains if (one.family, one.table) == (family, "filter")
            }
            forward = there.get("FORWARD")
            refuses = forward is not None and forward.policy == "drop"
            parents = [there[name] for name in _PARENTS if name in there]
            self._place(parents, self._tag in there, bridges if refuses else ())
        firewalld = [one for one in chains if one[:3] == _FIREWALLD]
        has_own = any(one[:3] == ("inet", "firewalld", self._tag) for one in chains)
        self._place(firewalld, has_own, bridges)
        for program, names in _LEGACY.items():
            self._place_legacy(program, names, bridges)

    def obstacles(self) -> list[str]:
        """Return other tables' chains that drop forwarded packets and that we leave alone."""
        return [
            f"{one.family} {one.table} {one.name}"
            for one in self._chains()
            if (one.hook, one.policy) == ("forward", "drop")
            and (one.family, one.table) not in {("ip", "filter"), ("ip6", "filter")}
            and one.table not in {self._tag, "firewalld"}
        ]

    def _chains(self) -> list[_Chain]:
        return [
            _Chain(
                one["family"],
                one["table"],
                one["name"],
                one.get("policy", ""),
                one.get("hook", ""),
            )
            for one in _listed(self._nft.listing("list chains"), "chain")
        ]

    def _place(self, parents: Sequence[_Chain], has_own: bool, bridges: Sequence[str]) -> None:  # noqa: FBT001
        """Call our chain from the first of *parents*, or from none without *bridges*."""
        if not parents or not (bridges or has_own):
            return
        family, table = parents[0][:2]
        own = f"{family} {table} {self._tag}"
        calls = {parent: list(self._calls(parent)) for parent in parents} if has_own else {}
        commands = []
        wanted = parents[0] if bridges else None
        for parent, handles in calls.items():
            for handle in handles[1:] if parent == wanted else handles:
                commands.append(f"delete rule {family} {table} {parent.name} handle {handle}")
        if wanted:
            commands += [f"add chain {own}", f"flush chain {own}"]
            commands += [f"add rule {own} {rule}" for rule in _nft_rules(bridges)]
            if not calls.get(wanted):
                commands.append(
                    f"insert rule {family} {table} {wanted.name} counter jump {self._tag}"
                )
        else:
            commands += [f"flush chain {own}", f"delete chain {own}"]
        self._nft.run("\n".join(commands) + "\n")

    def _calls(self, parent: _Chain) -> Iterator[int]:
        listing = self._nft.listing(f"list chain {parent.family} {parent.table} {parent.name}")
        for rule in _listed(listing, "rule"):
            if any(part.get("jump") == {"target": self._tag} for part in rule.get("expr", ())):
                yield rule["handle"]

    def _place_legacy(self, program: str, names: str, bridges: Sequence[str]) -> None:
        """Do the same for legacy iptables, which only its own program can change."""
        try:
            if "filter" not in Path("/proc/thread-self/net", names).read_text().split():
                return
        except FileNotFoundError:
            return
        path = shutil.which(program)
        if path is None:
            return
        rules = _run([path, "-w", "5", "-S"]).splitlines()
        parents = [name for name in _PARENTS if {f"-N {name}", f"-P {name} DROP"} & {*rules}]
        refuses = "-P FORWARD DROP" in rules
        has_own = f"-N {self._tag}" in rules
        if refuses and bridges:
            commands = [f":{self._tag} - [0:0]"]
            commands += [f"-A {self._tag} {rule}" for rule in _legacy_rules(bridges)]
            if f"-A {parents[0]} -j {self._tag}" not in rules:
                commands.append(f"-I {parents[0]} -j {self._tag}")
        elif has_own:
            calls = [rule for rule in rules if rule.endswith(f" -j {self._tag}")]
            commands = [rule.replace("-A ", "-D ", 1) for rule in calls]
            commands += [f"-F {self._tag}", f"-X {self._tag}"]
        else:
            return
        text = "\n".join(("*filter", *commands, "COMMIT", ""))
        _run([f"{path}-restore", "-w", "5", "--noflush"], text)


def _nft_rules(bridges: Sequence[str]) -> Iterator[str]:
    for name in _ELSEWHERE:
        yield f'oifname "{name}{"*" if name.endswith("-") else ""}" counter return'
    for bridge in bridges:
        yield f'iifname "{bridge}" counter accept'
        yield f'oifname "{bridge}" counter accept'


def _legacy_rules(bridges: Sequence[str]) -> Iterator[str]:
    for name in _ELSEWHERE:
        yield f"-o {name}{'+' if name.endswith('-') else ''} -j RETURN"
    for bridge in bridges:
        yield f"-i {bridge} -j ACCEPT"
        yield f"-o {bridge} -j ACCEPT"


def _listed(text: str, kind: str) -> Iterator[Any]:
    for one in json.loads(text or '{"nftables": []}')["nftables"]:
        if kind in one:
            yield one[kind]


def _run(command: Sequence[str], stdin: str = "") -> str:
    name = Path(command[0]).name
    try:
        result = subprocess.run(
            command, input=stdin, capture_output=True, text=True, check=False, timeout=_PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        raise TimeoutError(errno.ETIMEDOUT, f"{name} does not come to an end") from None
    if result.returncode:
        raise OSError(result.returncode, f"{name}: {result.stderr.strip()}")
    return result.stdout
