"""Errors between a plugin and its runtime: numbers on the wire, our classes inside.

The error of a plugin is raised as the class for its number, with the plugin's message; the
PluginError that caused it has number and message separately.
"""

from __future__ import annotations

from orlop.errors import (
    AlreadyExistsError,
    ExhaustedError,
    InvalidArgumentError,
    NotFoundError,
    OrlopError,
    UnavailableError,
    UnsupportedError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIGURATION = 7
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50
LIMITED = 51  # not available, and existing containers may lose their connections
INTERNAL = 999  # as in Debian's plugins

_CLASSES: dict[int, type[OrlopError]] = {
    INCOMPATIBLE_VERSION: UnsupportedError,
    UNSUPPORTED_FIELD: UnsupportedError,
    UNKNOWN_CONTAINER: NotFoundError,
    INVALID_ENVIRONMENT: InvalidArgumentError,
    DECODING_FAILURE: InvalidArgumentError,
    INVALID_CONFIGURATION: InvalidArgumentError,
    TRY_AGAIN_LATER: UnavailableError,
    NOT_AVAILABLE: UnavailableError,
    LIMITED: UnavailableError,
}
#: Numbers for our own errors; most have no number in the specification.
_CODES: dict[type[OrlopError], int] = {
    InvalidArgumentError: INVALID_CONFIGURATION,
    UnsupportedError: UNSUPPORTED_FIELD,
    UnavailableError: TRY_AGAIN_LATER,
    AlreadyExistsError: INTERNAL,
    ExhaustedError: INTERNAL,
}
_MOST_TEXT = 4096


class PluginError(Exception):
    """A plugin's error as it was reported."""

    def __init__(self, plugin: str, code: int, message: str, details: str) -> None:
        super().__init__(f"{message}; {details}" if details else message)
        self.plugin = plugin
        self.code = code
        self.message = message
        self.details = details


class RefusedError(Exception):
    """An error of our own plugin for which the specification has a number."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details


def told(plugin: str, document: dict[str, Any]) -> PluginError | None:
    """Return the error in a plugin's output, or None if it is not an error."""
    code, message, details = (document.get(key) for key in ("code", "msg", "details"))
    if isinstance(code, bool) or not isinstance(code, int):
        return None
    texts = [text[:_MOST_TEXT] if isinstance(text, str) else "" for text in (message, details)]
    return PluginError(plugin, code, texts[0] or f"error {code}", texts[1])


def raised(failure: PluginError, command: str) -> OrlopError:
    """Return the error to raise for a plugin's error."""
    kind = _CLASSES.get(failure.code, OrlopError)
    error = kind(f"CNI plugin {failure.plugin} refused {command}: {failure}")
    error.__cause__ = failure
    return error


def failure_of(error: OrlopError) -> PluginError | None:
    """Return the plugin's error that caused *error*, if there is one."""
    return error.__cause__ if isinstance(error.__cause__, PluginError) else None


def document(error: Exception, version: str) -> dict[str, Any]:
    """Return the output of our own plugin for *error*."""
    details = ""
    if isinstance(error, RefusedError):
        code, message, details = error.code, str(error), error.details
    elif isinstance(error, PluginError):
        code, message, details = error.code, error.message, error.details
    elif isinstance(error, OrlopError):
        cause = failure_of(error)
        if cause is not None:  # a delegate's own message, without ours around it
            return document(cause, version)
        code = _CODES.get(type(error), INTERNAL)
        message, details = str(error.args[0]), error.hint or ""
    elif isinstance(error, OSError):
        code, message = INTERNAL, str(error)
    else:
        code, message = INTERNAL, f"{type(error).__name__}: {error}"
    told: dict[str, Any] = {"cniVersion": version, "code": code, "msg": message}
    return {**told, "details": details} if details else told
