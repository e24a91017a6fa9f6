"""The engine's decisions that need no kernel."""

import asyncio
import re
import time

import pytest
from msgspec.structs import replace

from orlop.engine.containers.exits import should_restart
from orlop.engine.containers.health import judge, pause_ns
from orlop.engine.containers.lifecycle import parse_signal
from orlop.engine.containers.listing import fits
from orlop.engine.containers.merge import merge, wanted_mounts
from orlop.engine.containers.names import check_name, generate
from orlop.engine.events import Events
from orlop.engine.execs.capture import STDERR, STDOUT, Captured
from orlop.engine.shimlink import error_of
from orlop.engine.when import parse_moment
from orlop.errors import (
    CommandNotFoundError,
    InvalidArgumentError,
    UnavailableError,
    WrongStateError,
)
from orlop.model.container import (
    Container,
    ContainerOptions,
    Health,
    HealthResult,
    HealthState,
    MountPoint,
    RestartPolicy,
    Status,
)
from orlop.model.image import Healthcheck, ImageConfig, Process, RootFS

CONTAINER = Container(
    id="ab" * 32,
    name="web",
    options=ContainerOptions(labels={"tier": "front"}),
    image="sha256:" + "0" * 64,
    image_name="nginx",
    created_ns=1,
)


def _image(**process: object) -> ImageConfig:
    return ImageConfig(config=Process(**process), rootfs=RootFS("layers", ()))  # type: ignore[arg-type] # a test's shorthand


@pytest.mark.parametrize(
    ("entrypoint", "command", "result"),
    [
        (None, None, ("entry", "cmd")),
        (None, ("mine",), ("entry", "mine")),
        (("other",), None, ("other",)),
        (("other",), ("mine",), ("other", "mine")),
        (("",), ("mine",), ("mine",)),
    ],
)
def test_entrypoint_and_command_are_merged_as_docker_does(
    entrypoint: tuple[str, ...] | None, command: tuple[str, ...] | None, result: tuple[str, ...]
) -> None:
    image = _image(entrypoint=("entry",), cmd=("cmd",))
    merged = merge(ContainerOptions(entrypoint=entrypoint, command=command), image)
    first = () if merged.entrypoint in (None, ("",)) else merged.entrypoint
    assert (*(first or ()), *(merged.command or ())) == result


def test_what_the_request_says_wins_over_the_image() -> None:
    image = _image(
        cmd=("c",),
        env=("A=image", "B=image"),
        user="www",
        labels={"a": "image", "b": "image"},
        healthcheck=Healthcheck(test=("CMD", "x"), retries=7),
        volumes={"/data": {}},
    )
    options = ContainerOptions(
        environment=("A=mine",), labels={"a": "mine"}, health=Health(interval_ns=5)
    )
    merged = merge(options, image)
    assert sorted(merged.environment) == ["A=mine", "B=image"]
    assert merged.labels == {"a": "mine", "b": "image"}
    assert merged.user == "www"
    assert merged.volumes == ("/data",)
    assert merged.health == Health(test=("CMD", "x"), retries=7, interval_ns=5)


@pytest.mark.parametrize("number", [1, 999_999, -1, -(10**18), 2**63, 10**400])
def test_times_of_an_image_that_no_request_may_have_are_the_usual_ones(number: int) -> None:
    check = Healthcheck(
        test=("CMD", "x"),
        interval=number,
        timeout=number,
        start_period=number,
        start_interval=number,
        retries=-1,
    )
    merged = merge(ContainerOptions(), _image(cmd=("c",), healthcheck=check))
    assert merged.health == Health(test=("CMD", "x"))


def test_an_image_without_a_command_needs_one() -> None:
    with pytest.raises(InvalidArgumentError, match="no command specified"):
        merge(ContainerOptions(), _image())


@pytest.mark.parametrize("target", ["/../../etc", "/a/../../..//etc/"])
def test_a_volume_of_an_image_cannot_leave_the_root(target: str) -> None:
    (mount,) = wanted_mounts(ContainerOptions(volumes=(target,)), [])
    assert mount.target == "/etc"


@pytest.mark.parametrize("target", ["", "relative", "/", "/..", "/a\0b"])
def test_a_mount_target_that_is_none_is_refused(target: str) -> None:
    with pytest.raises(InvalidArgumentError):
        wanted_mounts(ContainerOptions(mounts=(MountPoint(type="tmpfs", target=target),)), [])


def test_two_mounts_of_one_target_are_refused() -> None:
    mounts = (
        MountPoint(type="bind", source="/a", target="/x"),
        MountPoint(type="bind", source="/b", target="/x/"),
    )
    with pytest.raises(InvalidArgumentError, match="Duplicate mount point: /x"):
        wanted_mounts(ContainerOptions(mounts=mounts), [])


@pytest.mark.parametrize("name", ["a", "-a", "_a", "a b", "a/b", "", "ä1", "a" * 300])
def test_a_name_that_docker_would_refuse_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="Invalid container name"):
        check_name(name)


def test_names_are_made_until_one_is_free() -> None:
    taken: set[str] = set()
    for _ in range(3000):
        name = generate(taken.__contains__)
        check_name(name)
        assert name not in taken
        taken.add(name)


@pytest.mark.parametrize(
    ("text", "number"),
    [("TERM", 15), ("SIGTERM", 15), ("9", 9), ("sigkill", 9), ("SIGRTMIN+3", 37)],
)
def test_signals_are_names_or_numbers(text: str, number: int) -> None:
    assert parse_signal(text) == number


@pytest.mark.parametrize("text", ["", "NOPE", "0", "99", "-1", "SIGRTMIN+99"])
def test_what_is_no_signal_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="Invalid signal"):
        parse_signal(text)


@pytest.mark.parametrize(
    ("policy", "code", "count", "by_user", "again"),
    [
        ("no", 1, 0, False, False),
        ("always", 0, 50, False, True),
        ("always", 0, 0, True, False),
        ("unless-stopped", 1, 0, False, True),
        ("unless-stopped", 1, 0, True, False),
        ("on-failure", 0, 0, False, False),
        ("on-failure", 1, 1, False, True),
        ("on-failure", 1, 2, False, False),
    ],
)
def test_restart_policies_decide_as_dockers_do(
    policy: str, code: int, count: int, by_user: bool, again: bool
) -> None:
    container = replace(CONTAINER, exit_code=code, stopped_by_user=by_user)
    chosen = RestartPolicy(name=policy, maximum_retry_count=2)  # type: ignore[arg-type] # parametrized
    assert should_restart(chosen, container, count) is again


def _result(code: int) -> HealthResult:
    return HealthResult(start_ns=1, end_ns=2, exit_code=code, output="")


def test_health_turns_after_enough_failures_and_back_after_one_success() -> None:
    state = HealthState(status="healthy")
    state = judge(state, _result(1), retries=2, lenient=False)
    assert state.status == "healthy"
    state = judge(state, _result(1), retries=2, lenient=False)
    assert (state.status, state.failing_streak) == ("unhealthy", 2)
    state = judge(state, _result(0), retries=2, lenient=False)
    assert (state.status, state.failing_streak) == ("healthy", 0)


def test_failures_in_the_start_period_do_not_count() -> None:
    state = HealthState()
    for _ in range(9):
        state = judge(state, _result(1), retries=2, lenient=True)
    assert (state.status, state.failing_streak, len(state.log)) == ("starting", 0, 5)


def test_probes_keep_to_the_interval_where_no_start_interval_is_given() -> None:
    assert pause_ns(Health(interval_ns=1), is_starting=True) == 1
    assert pause_ns(Health(), is_starting=True) == pause_ns(Health(), is_starting=False)
    both = Health(interval_ns=1, start_interval_ns=2)
    assert pause_ns(both, is_starting=True) == 2
    assert pause_ns(both, is_starting=False) == 1


def test_filters_of_a_listing_are_all_needed_and_their_values_alternatives() -> None:
    assert fits(CONTAINER, {"name": ["nope", "we"], "label": ["tier=front"]})
    assert not fits(CONTAINER, {"name": ["we"], "label": ["tier=back"]})
    assert all(fits(CONTAINER, {"name": [name]}) for name in ("^/?web$", "^/web$", "w.b"))
    assert not any(fits(CONTAINER, {"name": [name]}) for name in ("^we$", "^eb", "[", "(?"))
    assert fits(CONTAINER, {"status": [Status.CREATED], "health": ["none"]})
    assert not fits(CONTAINER, {"label!": ["tier"]})


def test_events_come_from_the_past_and_live_and_pass_filters() -> None:
    async def listen() -> list[str]:
        events = Events()
        events.publish("container", "create", id="1", attributes={"name": "a"})
        events.publish("image", "pull", id="2", attributes={})
        heard = []
        async for event in events.subscribe(
            since_ns=1, until_ns=time.time_ns() + 10**9, filters={"type": ["container"]}
        ):
            heard.append(event.action)
            if event.action == "create":
                events.publish("container", "start", id="1", attributes={"name": "a"})
            if len(heard) == 2:
                break
        return heard

    assert asyncio.run(listen()) == ["create", "start"]


def test_a_slow_subscriber_is_cut_off_and_costs_bounded_memory() -> None:
    async def lag() -> None:
        events = Events()
        stream = events.subscribe(since_ns=1)
        events.publish("container", "create", id="1", attributes={})
        await anext(stream)
        for _ in range(20_000):
            events.publish("container", "create", id="1", attributes={})
        with pytest.raises(UnavailableError, match="too slow"):
            async for _ in stream:
                pass
        assert events.subscribers == 0

    asyncio.run(lag())


def test_an_unknown_filter_of_events_is_refused() -> None:
    async def ask() -> None:
        with pytest.raises(InvalidArgumentError, match="invalid filter 'nope'"):
            await anext(Events().subscribe(filters={"nope": ["x"]}))

    asyncio.run(ask())


def test_the_shims_failures_become_errors_that_dockers_clients_know() -> None:
    missing = error_of({"kind": "command_not_found", "message": "exec: x", "hint": None})
    assert isinstance(missing, CommandNotFoundError)
    assert "executable file not found" in str(missing)
    wrong = error_of({"kind": "wrong_state", "message": "it runs", "hint": "stop it"})
    assert isinstance(wrong, WrongStateError)
    assert wrong.hint == "stop it"
    assert str(error_of({"kind": "no_such_kind", "message": "odd", "hint": None})) == "odd"


def test_frames_are_taken_apart_even_when_cut_short() -> None:
    out, err = b"\1\0\0\0\0\0\0\5hello", b"\2\0\0\0\0\0\0\4oops"
    captured = Captured(0, out + err + out[:10])
    assert captured.output() == b"hellooopshe"
    assert captured.output(STDOUT) == b"hellohe"
    assert captured.output(STDERR) == b"oops"
    assert Captured(0, b"\1\0").output() == b""


def test_moments_are_spans_dates_or_seconds() -> None:
    assert parse_moment("1700000000") == 1_700_000_000_000_000_000
    assert parse_moment("2023-11-14T22:13:20+00:00") == 1_700_000_000_000_000_000
    assert abs(parse_moment("1h30m") - (time.time_ns() - 5400 * 10**9)) < 10**9
    with pytest.raises(InvalidArgumentError, match=re.escape("invalid time 'soon'")):
        parse_moment("soon")
