"""A request that another thread breaks off, at whatever moment."""

import http.client
import random
import socket
import threading
import time

import pytest

from orlop.errors import UnavailableError
from orlop.images.transport import Request, Transport

WITHIN_S = 20.0  # a server that says nothing is waited for 30 s


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_request_to_who_never_answers_is_broken_off(scheme: str) -> None:
    told: list[Exception] = []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        request = Request("GET", f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/")
        for _ in range(30):
            with Transport() as transport:
                asking = threading.Thread(target=_send, args=(transport, request, told))
                asking.start()
                client, _ = silent.accept()
                time.sleep(random.choice((0, 0.001)))
                transport.break_off()
                asking.join(WITHIN_S)
                client.close()
                assert not asking.is_alive()
                with pytest.raises(UnavailableError, match="broken off"):
                    transport.send(request)
    assert len(told) == 30


def _send(transport: Transport, request: Request, told: list[Exception]) -> None:
    try:
        transport.send(request).close()
    except (OSError, http.client.HTTPException, UnavailableError) as error:
        told.append(error)
