"""What a run is: code in a fork of an interpreter that has done its setup."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import orlop
from orlop.errors import InvalidArgumentError
from tests.integration.engines import EngineProcess
from tests.integration.sandbox.faces import ids


def test_run_begins_where_the_setup_has_ended(template: orlop.Template) -> None:
    first, second = (
        template.run("print(BORN, textwrap.fill('x'), json.dumps([input()]))", input=b"word\n")
        for _ in range(2)
    )
    assert first.stdout.split()[1:] == [b"x", b'["word"]']
    assert first.stdout == second.stdout  # nobody has run the setup again
    assert (first.exit_code, first.stderr, first.timed_out) == (0, b"", False)


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [
        ("import sys; sys.exit('why')", 1, b"why\n"),
        ("import sys; sys.exit(3)", 3, b""),
        ("import os; os._exit(7)", 7, b""),
        ("import os; os.abort()", 134, b""),
        ("import os; os.kill(os.getpid(), 15)", 143, b""),
        ("import os; os.kill(0, 9)", 137, b""),
        ("def broken(:", 1, b"SyntaxError"),
        ("x = 1\nx / 0", 1, b"x / 0"),
        ("import atexit, sys; atexit.register(lambda: sys.stderr.write('last'))", 0, b"last"),
        ("import threading as t; t.Thread(target=lambda: 1 / 0).start()", 0, b"ZeroDivision"),
    ],
)
def test_run_ends_as_a_python_would(
    template: orlop.Template, code: str, exit_code: int, said: bytes
) -> None:
    result = template.run(code)
    assert result.exit_code == exit_code
    assert said in result.stderr


def test_time_limit_ends_all_that_a_run_has_started(template: orlop.Template) -> None:
    code = """
import os, subprocess, sys, time
subprocess.Popen(["sh", "-c", "setsid sleep 600 & sleep 600"])
print("begun", flush=True)
os.fork() or os.setsid()
time.sleep(600)
"""
    result = template.run(code, timeout=3)
    assert (result.timed_out, result.exit_code, result.stdout) == (True, 137, b"begun\n")
    assert not result.oom_killed


def test_what_a_run_leaves_behind_ends_with_it(template: orlop.Template) -> None:
    code = "import subprocess as s; s.Popen(['sh', '-c', 'setsid sleep 600 & sleep 600'])"
    begun = time.monotonic()
    assert template.run(code, timeout=300).exit_code == 0
    assert time.monotonic() - begun < 200


def test_streams_have_limits_and_carry_much(template: orlop.Template) -> None:
    echo = template.run("print(len(input())); print('e' * 3_000_000)", input=b"i" * 3_000_000)
    assert echo.stdout == b"3000000\n" + b"e" * 3_000_000 + b"\n"
    cut = template.run("print('o' * 100); input()", input=b"x" * 500_000, output_limit=10)
    assert (cut.stdout, cut.stdout_truncated, cut.stderr_truncated) == (b"o" * 10, True, False)
    unread = template.run("pass", input=b"x" * 500_000)
    assert unread.exit_code == 0


def test_limits_are_of_each_run(template: orlop.Template) -> None:
    greedy = template.run("x = bytearray(200 << 20)")
    assert (greedy.exit_code, greedy.oom_killed) == (137, True)
    bomb = """
import os, time
made = 0
try:
    while os.fork():
        made += 1
    time.sleep(600)
except OSError:
    print(made < 40)
"""
    assert template.run(bomb).stdout == b"True\n"
    assert template.run("x = bytearray(30 << 20); print(len(x))").stdout == b"31457280\n"


def test_usage_is_that_of_all_it_has_started(template: orlop.Template) -> None:
    busy = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done"
    code = f"import subprocess; subprocess.run(['sh', '-c', '{busy}'])"
    usage = template.run(code).usage
    assert usage.user_s > 0.01
    assert usage.peak_memory_bytes > 1 << 20


def test_many_at_once_get_each_their_own_answer_and_numbers(template: orlop.Template) -> None:
    def number(value: int) -> list[bytes]:
        return template.run(f"import random; print({value}, random.random())").stdout.split()

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(number, range(40)))
    assert [int(answer[0]) for answer in answers] == list(range(40))
    assert len({answer[1] for answer in answers}) == 40


def test_run_has_the_user_and_the_folder_that_were_asked_for(engine: EngineProcess) -> None:
    with orlop.Template(engine=engine.url, user="nobody:100", workdir="/tmp") as template:
        code = "import os; print(os.getuid(), os.getgid(), os.getgroups(), os.getcwd())"
        assert template.run(code).stdout == b"65534 100 [] /tmp\n"
        written = template.run("open('mine', 'w').write('x'); print(open('/dev/stdout', 'w'))")
        assert written.exit_code == 0, written.stderr


def test_read_only_template_lets_runs_write_to_tmp_alone(engine: EngineProcess) -> None:
    with orlop.Template(engine=engine.url, read_only=True) as template:
        assert template.run("open('/tmp/x', 'w')").exit_code == 0
        refused = template.run("open('/root/x', 'w')")
        assert b"Read-only file system" in refused.stderr
        assert template.run("import os; print(os.listdir('/tmp'))").stdout == b"[]\n"


def test_cancelled_run_has_been_killed(engine: EngineProcess) -> None:
    async def cancel() -> None:
        async with orlop.AsyncTemplate(engine=engine.url) as template:
            assert (await template.run("print(1)")).stdout == b"1\n"
            run = asyncio.create_task(template.run("import time; time.sleep(600)"))
            await asyncio.sleep(0.2)
            run.cancel()
            with pytest.raises(asyncio.CancelledError):
                await run
            assert (await template.run("print(2)")).stdout == b"2\n"

    asyncio.run(asyncio.wait_for(cancel(), 300))


def test_cancelled_start_has_been_undone(engine: EngineProcess) -> None:
    async def cancel() -> None:
        slow = orlop.AsyncTemplate(engine=engine.url, setup="import time; time.sleep(600)")
        before = ids(engine)
        starting = asyncio.create_task(slow.start())
        while ids(engine) == before:
            await asyncio.sleep(0.02)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert ids(engine) == before

    asyncio.run(asyncio.wait_for(cancel(), 120))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"setup": "import threading as t; t.Thread(target=t.Event().wait).start()"}, "threads"),
        ({"setup": "import subprocess; p = subprocess.Popen(['sleep', '600'])"}, "process running"),
        ({"setup": "f = open('/etc/passwd')"}, "has left /etc/passwd open"),
        ({"setup": "import mmap; m = mmap.mmap(-1, 4096)"}, "memory that runs would share"),
        ({"setup": "1 / 0"}, "ZeroDivisionError"),
        ({"imports": ["nowhere"]}, "No module named 'nowhere'"),
        ({"python": "nopython"}, "nopython"),
        ({"user": "nobodyknows"}, "no user 'nobodyknows'"),
        ({"command": ["true"]}, "no command but its own"),
        ({"imports": "numpy"}, "imports is one text"),
        ({"setup_timeout": 0}, "invalid setup_timeout"),
    ],
)
def test_template_that_cannot_be_forked_is_refused(
    engine: EngineProcess, options: dict[str, object], why: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=why):
        orlop.Template(engine=engine.url, **options).start()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "how", "why"),
    [
        (None, {}, "code is no text"),
        ("pass", {"input": "text"}, "input is bytes"),
        ("pass", {"timeout": "1"}, "invalid timeout"),
        ("pass", {"timeout": 0}, "invalid timeout"),
        ("pass", {"output_limit": None}, "invalid output_limit"),
        ("pass", {"output_limit": -1}, "invalid output_limit"),
    ],
)
def test_nonsense_is_refused_before_anything_is_asked_of_the_template(
    code: str, how: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=why):
        orlop.Template().run(code, **how)
    with pytest.raises(InvalidArgumentError, match=why):
        asyncio.run(orlop.AsyncTemplate().run(code, **how))
