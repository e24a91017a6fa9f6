"""Turn a container's message into the answer, or into the query to forward."""

from orlop.network.dns.message import Code, MalformedError, Query, Type, answer, read_query
from orlop.network.dns.zone import Zone

_STREAM_SIZE = 65535  # an answer over TCP


def respond(zone: Zone, container: str, message: bytes, *, stream: bool) -> bytes | Query:
    """Return the answer, b"" if there must be none, or the query to forward.

    For a container with an egress list, known() names go through forward() too, because their
    addresses must be opened before the answer.
    """
    try:
        query = read_query(message)
    except MalformedError as error:
        return error.answer
    if query.edns_version:
        return answer(query, [], code=Code.BADVERS)
    view = zone.view(container)
    if view is not None and view.policy is not None:
        is_listed = view.policy.destinations(query.name)
        return query if is_listed else answer(query, [], code=Code.NXDOMAIN)
    found = known(zone, container, query, stream=stream)
    return query if found is None else found


def known(zone: Zone, container: str, query: Query, *, stream: bool) -> bytes | None:
    """Return the answer that we know ourselves, or None."""
    records = zone.records(container, query)
    if records is not None:
        return answer(query, records, size=_STREAM_SIZE if stream else query.udp_size)
    view = zone.view(container)
    if view is None or (view.isolated and not view.servers):
        return failure(query)
    if view.searches and _is_bare(query):
        return answer(query, [])
    return None


def failure(query: Query) -> bytes:
    """Return the answer that there is no result."""
    return answer(query, [], code=Code.SERVFAIL)


def _is_bare(query: Query) -> bool:
    """Whether it is a host name without a dot: with ndots set, the search list must be tried."""
    return query.type in (Type.A, Type.AAAA) and query.name[0] + 2 == len(query.name)
