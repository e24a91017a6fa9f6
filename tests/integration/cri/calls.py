"""A program that makes gRPC calls by grpcio: `calls.py SOCKET`, and lists of calls on stdin.

It is a process of its own because grpcio starts threads, and tests fork.
"""

import pickle
import sys
from typing import Any, NamedTuple

import grpc

Call = tuple[str, bytes, float | None]  # path, message, seconds


class Reply(NamedTuple):
    """The message of a call, or its error."""

    message: bytes | None
    code: str = ""
    text: str = ""
    kind: str = ""


def _reply(future: Any) -> Reply:
    try:
        return Reply(future.result())
    except grpc.RpcError:
        trailers = dict(future.trailing_metadata() or ())
        return Reply(None, future.code().name, future.details(), trailers.get("orlop-kind", ""))


def main(path: str) -> None:
    """Answer each list of calls, which are made at the same time, with a list of replies."""
    with grpc.insecure_channel(f"unix:{path}") as channel:
        while True:
            try:
                calls: list[Call] = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            futures = [
                channel.unary_unary(name).future(message, timeout=timeout_s)
                for name, message, timeout_s in calls
            ]
            pickle.dump([tuple(_reply(future)) for future in futures], sys.stdout.buffer)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1])
