"""A small kubelet: what tests use to speak CRI, through grpcio."""

import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from orlop.api.cri import v1
from orlop.api.protobuf import message_class

_PROGRAM = Path(__file__).with_name("calls.py")


class RefusedError(Exception):
    """A call failed: its code as gRPC names it, text, and Orlop's kind."""

    def __init__(self, code: str, text: str, kind: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text, self.kind = code, text, kind


class Kubelet:
    """A connection to a CRI socket."""

    def __init__(self, socket: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, _PROGRAM, socket], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def __call__(self, request: Message, *, timeout_s: float | None = 60) -> Any:
        """Return the answer to *request*, whose class says which method it is for."""
        answer = self.all([request], timeout_s=timeout_s)[0]
        if isinstance(answer, RefusedError):
            raise answer
        return answer

    def all(self, requests: Sequence[Message], *, timeout_s: float | None = 60) -> list[Any]:
        """Make calls at the same time; return the answers, with RefusedError for failed ones."""
        methods = [_method(request) for request in requests]
        replies = self.raw(
            [
                (f"/{method.containing_service.full_name}/{method.name}", data, timeout_s)
                for method, data in zip(
                    methods, [request.SerializeToString() for request in requests], strict=True
                )
            ]
        )
        return [
            RefusedError(*error) if data is None else _answer(method, data)
            for method, (data, *error) in zip(methods, replies, strict=True)
        ]

    def raw(self, calls: Sequence[tuple[str, bytes, float | None]]) -> list[Any]:
        """Make calls of (path, message, seconds); return (message, code, text, kind) of each."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        pickle.dump(list(calls), self._process.stdin)
        self._process.stdin.flush()
        replies: list[Any] = pickle.load(self._process.stdout)
        return replies

    def close(self) -> None:
        """End the connection."""
        self._process.communicate(timeout=20)


def _method(request: Message) -> Any:
    name = type(request).DESCRIPTOR.name.removesuffix("Request")
    services = v1.DESCRIPTOR.services_by_name.values()
    return next(one.methods_by_name[name] for one in services if name in one.methods_by_name)


def _answer(method: Any, data: bytes) -> Message:
    return message_class(method.output_type).FromString(data)
