"""Which error is which status."""

import errno

import pytest

from orlop.api.docker.errors import STATUS, render_error, status_of, translate_os_error
from orlop.errors import ExhaustedError, NotFoundError, OrlopError


def test_every_error_has_a_status() -> None:
    assert set(STATUS) == set(OrlopError.__subclasses__())


def test_error_without_a_row_takes_the_status_of_its_parent() -> None:
    class LostError(NotFoundError):
        """A NotFoundError that only this test knows."""

    try:
        assert status_of(LostError("gone")) == 404
    finally:
        del LostError


def test_error_is_answered_with_message_and_hint() -> None:
    reply = render_error(NotFoundError("no such container: x", hint="see ps"))
    assert reply.status == 404
    assert reply.body == b'{"message":"no such container: x (see ps)"}'


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.ENOMEM, errno.EDQUOT])
def test_full_disk_and_table_are_exhaustion(number: int) -> None:
    assert isinstance(translate_os_error(OSError(number, "x")), ExhaustedError)
