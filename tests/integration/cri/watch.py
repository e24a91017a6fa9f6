"""A program that makes one streaming gRPC call by grpcio: `watch.py SOCKET PATH`.

It writes None once the call is accepted, then the bytes of each message, pickled.
"""

import pickle
import sys

import grpc


def _tell(what: bytes | None) -> None:
    pickle.dump(what, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def main(socket: str, path: str) -> None:
    """Make the call with an empty message."""
    with grpc.insecure_channel(f"unix:{socket}") as channel:
        messages = channel.unary_stream(path)(b"")
        messages.initial_metadata()
        _tell(None)
        try:
            for message in messages:
                _tell(message)
        except grpc.RpcError:  # the engine has ended
            return


if __name__ == "__main__":
    main(*sys.argv[1:])
