"""What strangers have written, shown on a real terminal: none of it may command the terminal."""

import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests import crafting
from tests.integration.cli.conftest import IMAGE, CommandLine
from tests.integration.cli.terminals import terminal

#: The clipboard is set, the title changed, the screen cleared, text hidden, shown backwards.
EVIL = (
    "\x1b]52;c;ZXZpbA==\x07\x1b]0;title\x07\x1b[2J\x1b[8m\x9b2J\x9d0;t\x9c\x90q\x85"
    "\u202e\u2066\u200f\x7f\x08\x0c\rroot\U000e0041"
)
#: What of it a terminal obeys, or a reader does not see.
ORDERS = {character for character in EVIL if not (character.isascii() and character.isprintable())}
FORGED = "orlop: this line is forged"
NAME = "evil:1"
#: What progress bars draw with.
DRAWN = ("\x1b[?25l", "\x1b[?25h", "\x1b[2K", "\r")


def shown(cli: CommandLine, *words: str) -> str:
    """Return what one command line makes of a terminal."""
    with terminal(cli, *words) as tty:
        return tty.read_to_end().decode().replace("\r\n", "\n")


def is_harmless(text: str) -> bool:
    return not ORDERS.intersection(text) and FORGED not in text.splitlines()


@pytest.fixture
def evil(cli: CommandLine, tmp_path: Path) -> Iterator[str]:
    """An image whose every text is hostile."""

    def files(tar: tarfile.TarFile) -> None:
        crafting.busybox(tar)
        crafting.add(tar, f"etc/{EVIL}", data=b"")

    text = f"{EVIL}\n{FORGED}\n"
    config = {
        "Cmd": ["sh", "-c", "sleep 1000", text],
        "Labels": {text: text, "plain": text},
        "Env": ["PATH=/bin", f"A={text}"],
        "Healthcheck": {"Test": ["CMD", "echo", text], "Interval": 1_000_000_000},
        "WorkingDir": f"/tmp/{EVIL}",
    }
    layers = [crafting.layer(files)]
    crafting.docker_archive(tmp_path / "evil.tar", NAME, layers, config)
    cli.out("load", "-i", str(tmp_path / "evil.tar"))
    yield NAME
    cli.run("rmi", "-f", NAME)


def test_no_text_of_an_image_commands_the_terminal(cli: CommandLine, evil: str) -> None:
    assert cli.out("run", "-d", "--name", "evil", evil)
    cli.out("exec", "evil", "touch", f"/tmp/{EVIL}\n{FORGED}")
    for words in (
        ("ps", "--no-trunc"),
        ("ps", "--format", "{{.Command}} {{.Labels}}"),
        ("ps", "--format", "json"),
        ("history", "--no-trunc", evil),
        ("images", "--format", "json"),
        ("inspect", evil, "evil"),
        ("inspect", "-f", '{{index .Config.Labels "plain"}}', evil),
        ("events", "--since", "1h", "--until", "0s"),
        ("events", "--since", "1h", "--until", "0s", "--format", "json"),
        ("top", "evil"),
        ("diff", "evil"),
        ("stats", "--no-stream"),
    ):
        text = shown(cli, *words)
        assert text.strip(), words
        forgeable = words[1:2] == ("-f",) or "{{" in words[-1]  # the lines are then the template's
        assert is_harmless(text.replace(FORGED, "") if forgeable else text), (words, text)


def test_no_error_message_commands_the_terminal(cli: CommandLine, evil: str) -> None:
    hostile = f"{EVIL}\n{FORGED}\n"
    for words in (
        ("run", "--rm", evil, hostile),  # no such program
        ("run", "--rm", hostile),
        ("run", "--rm", "-v", f"{hostile}:/x", evil),
        ("rm", hostile),
        ("rmi", hostile),
        ("inspect", hostile),
        ("volume", "create", hostile),
        ("network", "rm", hostile),
        (hostile,),
        ("ps", hostile),
    ):
        text = shown(cli, *words)
        for drawn in DRAWN:
            text = text.replace(drawn, "")
        assert is_harmless(text), (words, text)


class _Registry(BaseHTTPRequestHandler):
    """Refuses with a message that no terminal should see."""

    def do_GET(self) -> None:
        errors = [{"code": "DENIED", "message": f"{EVIL}\n{FORGED}\n"}]
        body = json.dumps({"errors": errors}).encode()
        self.send_response(404 if self.path != "/v2/" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815 (http.server's name)

    def log_message(self, *_: object) -> None:
        return


def test_no_registry_commands_the_terminal(cli: CommandLine) -> None:
    with HTTPServer(("127.0.0.1", 0), _Registry) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            text = shown(cli, "pull", f"127.0.0.1:{server.server_port}/evil")
        finally:
            server.shutdown()
            thread.join()
    assert "orlop: " in text
    for drawn in DRAWN:
        text = text.replace(drawn, "")
    assert is_harmless(text), text


def test_a_table_has_no_orders_even_where_it_goes_through_a_pipe(
    cli: CommandLine, evil: str
) -> None:
    cli.out("run", "-d", "--name", "evil", evil)
    for words in (("ps", "--no-trunc"), ("history", "--no-trunc", evil), ("top", "evil")):
        assert is_harmless(cli.out(*words)), words


def test_the_output_of_programs_reaches_a_terminal_as_it_is(cli: CommandLine) -> None:
    script = f"printf '{EVIL}'"
    assert EVIL in shown(cli, "run", "--name", "said", IMAGE, "sh", "-c", script)
    assert EVIL in shown(cli, "logs", "said")


def test_a_format_gives_programs_the_text_as_it_is(cli: CommandLine, evil: str) -> None:
    found = cli.out("inspect", "-f", '{{index .Config.Labels "plain"}}', evil)
    assert found == f"{EVIL}\n{FORGED}"
