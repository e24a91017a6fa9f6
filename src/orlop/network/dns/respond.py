"""From a container's message to the answer, or to the question that others must answer."""

from orlop.network.dns.message import Code, MalformedError, Query, Type, answer, read_query
from orlop.network.dns.zone import Zone

_STREAM_SIZE = 65535  # an answer over TCP


def respond(zone: Zone, container: str, message: bytes, *, stream: bool) -> bytes | Query:
    """Return the answer, b"" where none is due, or the query that is to be forwarded.

    What a container with an egress list may ask for is for forward(), too, where known() tells
    it: the way has to be open before it is told.
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
    """Return the answer that needs nobody else, or None."""
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
    """Return the answer that says that there is none to be had."""
    return answer(query, [], code=Code.SERVFAIL)


def _is_bare(query: Query) -> bool:
    """Whether it is a host name without a dot: with ndots set, the search list has to be tried."""
    return query.type in (Type.A, Type.AAAA) and query.name[0] + 2 == len(query.name)
