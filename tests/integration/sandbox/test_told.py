"""What did not run says why, in either way of running it, and blames nothing else."""

from typing import Any

import pytest

import orlop
from orlop.errors import NotFoundError, OrlopError, UnavailableError
from tests.integration.engines import EngineProcess

WAYS = pytest.mark.parametrize(
    "options", [{}, {"command": ["sleep", "600"]}], ids=["quick", "usual"]
)


@WAYS
def test_what_is_killed_before_it_begins_was_killed(
    engine: EngineProcess, options: dict[str, Any]
) -> None:
    with orlop.Sandbox(engine=engine.url, **options) as box:
        for _ in range(5):
            with box.terminal(["sleep", "600"]) as terminal:
                terminal.kill()
                assert (b"".join(terminal), terminal.exit_code) == (b"", 137)
            with box.exec(["sleep", "600"]) as process:
                process.kill()
                assert process.result()[:3] == (137, b"", b"")


def test_command_in_a_sandbox_that_ends_meanwhile_is_told_of_nothing_else(
    engine: EngineProcess,
) -> None:
    for _ in range(5):
        with orlop.Sandbox(engine=engine.url, command=["true"]) as box:
            try:
                told = box.run(["true"]).stderr.decode()  # it may be in time
            except OrlopError as error:
                told = str(error)
        assert "memory" not in told
        assert "setns" not in told


@WAYS
def test_wrong_user_or_folder_is_one_line(engine: EngineProcess, options: dict[str, Any]) -> None:
    wrong: list[dict[str, Any]] = [{"user": "nobody-at-all"}, {"workdir": "/no/such/folder"}]
    with orlop.Sandbox(engine=engine.url, **options) as box:
        for how in wrong:
            result = box.run(["true"], **how)
            assert result.exit_code == 126
            assert next(iter(how.values())) in result.stderr.decode()
            assert result.stderr.endswith(b"\n")
            assert b"\r" not in result.stderr


def test_image_that_cannot_be_pulled_is_named(engine: EngineProcess) -> None:
    for image in ("registry.invalid/nothing:1", "127.0.0.1:1/nothing:1"):
        with pytest.raises(OrlopError, match="nothing:1") as told:
            orlop.Sandbox(engine=engine.url, image=image).start()
        assert isinstance(told.value, (NotFoundError, UnavailableError))
