"""orlop login and logout."""

from __future__ import annotations

import sys

from orlop.cli.options import Command, flag, operand, text
from orlop.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from orlop.client.client import Client


class LoginCommand(Command):
    description = (
        "Tries a user name and password at a registry, and keeps them for pull and push in\n"
        "~/.docker/config.json, or in the credential helper that is set there."
    )
    examples = (("orlop login -u me --password-stdin registry.example < password", "from a file"),)

    username = text("-u", "--username", metavar="NAME", help="asked for if not given")
    password = text("-p", "--password", metavar="TEXT", help="better: --password-stdin")
    password_stdin = flag("--password-stdin", help="read the password from the input")
    server = operand("SERVER", optional=True)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Log in; PermissionDeniedError if the registry refuses."""
        from orlop.client import credentials

        registry = (
            credentials.registry_of(f"{_host(self.server)}/") if self.server else credentials.HUB
        )
        username, password = _ask(self, err)
        body = {
            "username": username,
            "password": password,
            "serveraddress": credentials.key_of(registry),
        }
        answer = client.system.login(body)
        token = str(answer.get("IdentityToken") or "")
        given = credentials.Credentials(username=username, password=password, identity_token=token)
        place = credentials.save(registry, given)
        if place == credentials.config_path():
            print(f"WARNING: the password is stored unencrypted in {place}", file=err)
        print(answer.get("Status") or "Login Succeeded", file=out)
        return 0


def _host(server: str) -> str:
    """Return a registry's host, whatever is around it: https://, a path."""
    return server.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _ask(args: LoginCommand, err: TextIO) -> tuple[str, str]:
    """Return user name and password, from options, the input or the terminal."""
    if args.password_stdin:
        if args.password or not args.username:
            raise InvalidArgumentError("--password-stdin goes with --username alone")
        return args.username, sys.stdin.read().rstrip("\r\n")
    if args.password:
        print("WARNING: others can see --password; use --password-stdin", file=err)
    if not sys.stdin.isatty() and not (args.username and args.password):
        raise InvalidArgumentError("cannot ask without a terminal", hint="use --password-stdin")
    username, password = args.username, args.password
    if not username:
        err.write("Username: ")
        err.flush()
        username = sys.stdin.readline().strip()
    if not password:
        import getpass

        password = getpass.getpass("Password: ")
    if not username or not password:
        raise InvalidArgumentError("user name and password are needed")
    return username, password


class LogoutCommand(Command):
    description = "Forgets the user name and password for a registry."

    server = operand("SERVER", optional=True)

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Forget them; nothing to forget is no error."""
        from orlop.client import credentials

        registry = self.server or credentials.HUB
        if credentials.forget(registry):
            print(f"Removing login credentials for {credentials.key_of(registry)}", file=out)
        else:
            print(f"Not logged in to {credentials.key_of(registry)}", file=out)
        return 0
