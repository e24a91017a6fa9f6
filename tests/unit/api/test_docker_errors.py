"""What is told of an error."""

import errno
import json

import pytest

from orlop.api.docker.errors import render_error
from orlop.api.failures import translate_os_error
from orlop.errors import (
    CommandNotFoundError,
    ExhaustedError,
    ImageNotFoundError,
    NotFoundError,
    error_of,
    failure_of,
)


def test_every_error_survives_the_way_to_another_process() -> None:
    for error in (NotFoundError("no x", hint="see ps"), CommandNotFoundError("exec: y")):
        again = error_of(failure_of(error))
        assert (type(again), str(again)) == (type(error), str(error))


def test_error_is_answered_with_message_hint_and_kind() -> None:
    reply = render_error(ImageNotFoundError("no such image: x", hint="see images"))
    assert reply.status == 404
    assert json.loads(reply.body) == {
        "message": "no such image: x (see images)",
        "kind": "image_not_found",
    }


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EMFILE, errno.ENOMEM, errno.EDQUOT])
def test_full_disk_and_table_are_exhaustion(number: int) -> None:
    assert isinstance(translate_os_error(OSError(number, "x")), ExhaustedError)
