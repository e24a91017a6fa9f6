"""The failure of a step: how a child reports it to its parent, and what it means to a user.

One JSON object on the report pipe: {"step", "errno", "message", "kind"}.
"""

import errno
import os

from orlop.errors import (
    CommandNotExecutableError,
    CommandNotFoundError,
    CorruptError,
    ExhaustedError,
    InvalidArgumentError,
    OrlopError,
    PermissionDeniedError,
    UnsupportedError,
    WrongStateError,
)
from orlop.model import jsontext
from orlop.model.light import TypedDict
from orlop.model.light_enum import StrEnum


class Kind(StrEnum):
    NOT_FOUND = "not_found"
    NOT_EXECUTABLE = "not_executable"
    FAILED = "failed"


class Report(TypedDict):
    step: str
    errno: int
    message: str
    kind: str


class StepError(Exception):
    """A step's failure that needs a message besides the errno."""

    def __init__(
        self, message: str, *, kind: Kind = Kind.FAILED, number: int = errno.EINVAL
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.number = number


_ERRORS: dict[str, type[OrlopError]] = {
    Kind.NOT_FOUND: CommandNotFoundError,
    Kind.NOT_EXECUTABLE: CommandNotExecutableError,
}

_ERRORS_BY_NUMBER: dict[int, type[OrlopError]] = {
    errno.EPERM: PermissionDeniedError,
    errno.ESRCH: WrongStateError,
    errno.ENOSYS: UnsupportedError,
    errno.EOPNOTSUPP: UnsupportedError,
    errno.ENODEV: UnsupportedError,
    errno.ENOSPC: ExhaustedError,
    errno.EDQUOT: ExhaustedError,
    errno.ENOMEM: ExhaustedError,
    errno.EMFILE: ExhaustedError,
    errno.ENFILE: ExhaustedError,
    errno.EAGAIN: ExhaustedError,
}


def encode(step: str, error: BaseException) -> bytes:
    """Encode *error* as the report of *step*."""
    number, kind = errno.EINVAL, Kind.FAILED
    if isinstance(error, StepError):
        number, kind = error.number, error.kind
        text = str(error)
    elif isinstance(error, OSError):
        number = error.errno or errno.EINVAL
        text = _text(error)
    else:
        text = f"{type(error).__name__}: {error}"
    report = Report(step=step, errno=number, message=text, kind=kind)
    return jsontext.dumps(report).encode(errors="replace")


def decode(what: str, data: bytes) -> OrlopError:
    """Return the error of the report *data*; its message begins with *what* ("cannot start …")."""
    try:
        report: Report = jsontext.loads(data)
        step, number, message = report["step"], report["errno"], report["message"]
        kind = report["kind"]
    except (CorruptError, KeyError, TypeError):
        return OrlopError(
            f"{what}: its process ended before it could say why: "
            "linux.resources.memory leaves it too little, or linux.seccomp forbids it to"
        )
    if kind in _ERRORS:
        return _ERRORS[kind](f"{what}: {message}")
    error = _ERRORS_BY_NUMBER.get(number, InvalidArgumentError)
    return error(f"{what}: {step.replace('_', ' ')}: {message}")


def translate(what: str, step: str, error: OSError) -> OrlopError:
    """Return the error for a failed call of the parent itself."""
    return decode(what, encode(step, error))


def _text(error: OSError) -> str:
    reason = os.strerror(error.errno or 0)  # inside a clause, so without a capital
    text = (error.strerror or reason).replace(reason, reason[:1].lower() + reason[1:])
    if error.filename is not None:
        text += f": {os.fsdecode(error.filename)!r}"
    return text
