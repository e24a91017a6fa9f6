"""Links on the default network (`--link`): names and variables of other containers."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from orlop.engine.networks import modes
from orlop.engine.records import Records, short
from orlop.errors import NotFoundError, WrongStateError
from orlop.model.container import Container, ContainerOptions
from orlop.model.network import EndpointOptions

_NOT_TOLD = ("HOME", "PATH")  # variables that have no meaning in another container


class Link(NamedTuple):
    """One link: the alias, the other container, and its addresses on the default network."""

    alias: str
    other: Container
    addresses: tuple[str, ...]


def wanted(options: ContainerOptions) -> tuple[str, ...]:
    """Return a container's requested links on the default network, as ID:ALIAS."""
    return options.networks.get(modes.DEFAULT, EndpointOptions()).links


def without(options: ContainerOptions, alias: str) -> ContainerOptions:
    """Return *options* without the link *alias* on the default network; NotFoundError if none."""
    left = tuple(text for text in wanted(options) if parse(text)[0] != alias)
    if left == wanted(options):
        raise NotFoundError(f"no link {alias[:200]!r} on the network {modes.DEFAULT}")
    endpoint = replace(options.networks[modes.DEFAULT], links=left)
    return replace(options, networks={**options.networks, modes.DEFAULT: endpoint})


def parse(text: str) -> tuple[str, str]:
    """Return alias and container of CONTAINER:ALIAS."""
    ref, _, alias = text.partition(":")
    return alias or ref, ref


def links_of(container: Container, network: str, records: Records) -> Iterator[Link]:
    """Return the links of *container*; *network* is the id of the default network.

    Raises:
        WrongStateError: *container* is being started, and a linked container is not running.
            While *container* runs, others may stop and start.
    """
    for text in wanted(container.options):
        alias, ref = parse(text)
        try:
            other = records.find(ref)
        except NotFoundError:
            _check_running(container, ref[:12], alias)
            continue
        addresses = tuple(
            address.partition("/")[0]
            for endpoint in other.endpoints
            if endpoint.network == network
            for address in endpoint.addresses
        )
        if not addresses:
            _check_running(container, other.name, alias)
        yield Link(alias, other, addresses)


def _check_running(container: Container, name: str, alias: str) -> None:
    if not container.running:
        raise WrongStateError(
            f"Cannot link to a non running container: /{name} AS /{container.name}/{alias}",
            hint=f"start {name} on the network {modes.DEFAULT} first",
        )


def hosts_lines(link: Link) -> Iterator[str]:
    """Return the lines of /etc/hosts for a link."""
    names = " ".join(dict.fromkeys((link.alias, short(link.other.id), link.other.name)))
    return (f"{address}\t{names}" for address in link.addresses)


def variables(container: Container, link: Link) -> list[str]:
    """Return the environment variables of a link: address, exposed ports, name, environment."""
    prefix = link.alias.upper().replace("-", "_")
    made = []
    if ports := sorted(_ports(link.other.options.exposed_ports)):
        made = _of_ports(prefix, link.addresses[0], ports)
    made.append(f"{prefix}_NAME=/{container.name}/{link.alias}")
    for entry in link.other.options.environment:
        name, equals, _ = entry.partition("=")
        if equals and name not in _NOT_TOLD:
            made.append(f"{prefix}_ENV_{entry}")
    return made


def _of_ports(prefix: str, address: str, ports: Sequence[tuple[int, str]]) -> list[str]:
    number, protocol = ports[0]
    made = [f"{prefix}_PORT={protocol}://{address}:{number}"]
    for run in _runs(ports):
        made += _of_run(prefix, address, run)
        for number, protocol in run:
            name = f"{prefix}_PORT_{number}_{protocol.upper()}"
            made.append(f"{name}={protocol}://{address}:{number}")
            made.append(f"{name}_ADDR={address}")
            made.append(f"{name}_PORT={number}")
            made.append(f"{name}_PROTO={protocol}")
    return made


def _of_run(prefix: str, address: str, run: Sequence[tuple[int, str]]) -> list[str]:
    """Return the variables of a run of ports, named after the first; none for one port."""
    (first, protocol), (last, other) = run[0], run[-1]
    if first == last:
        return []
    begin = f"{prefix}_PORT_{first}_{protocol.upper()}"
    end = f"{prefix}_PORT_{first}_{other.upper()}"
    return [
        f"{begin}_START={protocol}://{address}:{first}",
        f"{begin}_ADDR={address}",
        f"{begin}_PROTO={protocol}",
        f"{begin}_PORT_START={first}",
        f"{end}_END={other}://{address}:{last}",
        f"{end}_PORT_END={last}",
    ]


def _runs(ports: Sequence[tuple[int, str]]) -> Iterator[list[tuple[int, str]]]:
    """Return *ports* in groups of consecutive numbers."""
    run: list[tuple[int, str]] = []
    for port in ports:
        if run and port[0] != run[-1][0] + 1:
            yield run
            run = []
        run.append(port)
    yield run


def _ports(exposed: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Return number and protocol of "80/tcp"; skip an image's invalid entries."""
    for text in exposed:
        number, _, protocol = text.partition("/")
        if number.isdecimal():
            yield int(number), protocol or "tcp"
