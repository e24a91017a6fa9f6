"""orlop bench: what starts cost on this machine, beside the engines that are installed."""

from __future__ import annotations

from orlop.cli.options import FILE, FOLDER, Command, flag, number, text, texts
from orlop.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TextIO

    from orlop.benchmark.bench import Part, Results
    from orlop.benchmark.plan import BenchPlan
    from orlop.client.client import Client

INTERRUPTED = 130
#: What a file's name ends with, and what is written to it.
_FORMS = {"json": "json", "md": "markdown"}
_COUNTS = ("rounds", "wave", "starts", "limit", "live", "peer_density", "soak")


class BenchCommand(Command):
    description = (
        "Starts sandboxes in many ways and measures them: an engine of its own, in folders of its\n"
        "own, and docker, podman, ctr, runc and a bare loop in C in the same run, in turns. It\n"
        "needs root, and no network. Ctrl-C ends it, and prints what it has."
    )
    examples = (
        ("orlop bench --only warm --starts 20 --peers runc", "a first look, in seconds"),
        ("orlop bench --start-peers --plots plots -o figures.json -o figures.md", "all of it"),
    )

    only = text(
        "--only", metavar="PARTS", help="of warm,concurrency,exec,pool,fork,neighbours,density,soak"
    )
    also = text("--also", metavar="MODULE", help="a Python module with more PARTS")
    settings = texts("--set", metavar="NAME=VALUE", help="a setting of one part")
    peers = text(
        "--peers",
        metavar="PEERS",
        help="of docker,podman,ctr,runc,crun,orlop-runtime,orlop-command,floor, or none",
    )
    start_peers = flag("--start-peers", help="start dockerd and containerd if they are not running")
    rounds = number("--rounds", help="rounds of each wave (3)")
    clients = text("--clients", metavar="N,N", help="clients at once (1,16,100)")
    wave = number("--wave", help="starts in a round, a tenth for peers (200)")
    starts = number("--starts", help="starts one after the other, and execs (100)")
    limit = number("--limit", help="maximum clients at once for peers (16)")
    live = number("--live", help="sandboxes alive at the same time (1000)")
    peer_density = number("--peer-density", help="the same for each peer (20)")
    soak = number("--soak", help="starts in a row with each of Orlop's drivers (2000)")
    folder = text(
        "--folder", metavar="FOLDER", help="folder for engines' state (/var/tmp)", completes=FOLDER
    )
    run_folder = text(
        "--run-folder", metavar="FOLDER", help="folder for their sockets (/run)", completes=FOLDER
    )
    form = text(
        "--format",
        metavar="FORMAT",
        help="table, json or markdown",
        choices=("table", "json", "markdown"),
    )
    outputs = texts(
        "-o", "--output", metavar="FILE", help="write a file: .json, .md or text", completes=FILE
    )
    plots = text(
        "--plots", metavar="FOLDER", help="folder for plots, SVG and PNG", completes=FOLDER
    )

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Measure, then write what was found; 130 where it was interrupted."""
        from orlop.benchmark.run import results_of

        parts = _parts(self)
        plan = _plan(self, parts)
        if self.plots:
            from orlop.benchmark import plots

            plots.check(self.plots)
        results = results_of(plan, parts)
        try:
            _measure(plan, results, err, lambda: _write_files(self, results))
        finally:  # what was found is never thrown away
            _write(self, results, out)
        return INTERRUPTED if results.interrupted else 0


def _parts(args: BenchCommand) -> Mapping[str, Part]:
    """Return the parts to be measured, by name."""
    from importlib import import_module

    from orlop.benchmark.parts import PARTS
    from orlop.benchmark.plan import check_known

    known = dict(PARTS)
    if args.also:
        try:
            known |= import_module(args.also).PARTS
        except (ImportError, AttributeError) as error:
            raise InvalidArgumentError(f"invalid --also {args.also}: {error}") from None
    wanted = args.only.split(",") if args.only else list(known)
    check_known("part", wanted, known)
    return {name: known[name] for name in wanted}


def _plan(args: BenchCommand, parts: Mapping[str, Part]) -> BenchPlan:
    from orlop.benchmark.plan import BenchPlan, check_known

    given: dict[str, Any] = {"start_peers": args.start_peers, "parts": tuple(parts)}
    for setting in args.settings:
        if "=" not in setting:
            raise InvalidArgumentError(f"invalid --set {setting}", hint="NAME=VALUE")
    given["settings"] = dict(setting.split("=", 1) for setting in args.settings)
    check_known("setting", given["settings"], {n for part in parts.values() for n in part.settings})
    if args.peers:
        given["peers"] = () if args.peers == "none" else tuple(args.peers.split(","))
    if args.clients:
        try:
            given["clients"] = tuple(int(word) for word in args.clients.split(","))
        except ValueError:
            raise InvalidArgumentError(
                f"invalid --clients {args.clients}", hint="such as 1,16,100"
            ) from None
    for name in ("folder", "run_folder", *_COUNTS):
        if getattr(args, name) not in (None, ""):
            given[name] = getattr(args, name)
    return BenchPlan(**given)


def _measure(plan: BenchPlan, results: Results, err: TextIO, keep: Callable[[], None]) -> None:
    """Run the *plan*; ctrl-c and SIGTERM end it early, and what was found stays."""
    from orlop.benchmark.run import run as run_plan
    from orlop.cli.interruption import Interruption
    from orlop.cli.output.steps import Steps

    with Interruption() as interruption, Steps(err) as steps:

        def say(what: str, share: float) -> None:
            interruption.check()
            steps.show(what, share)

        try:
            run_plan(plan, results, say, keep)
        except KeyboardInterrupt:
            results.interrupted = True


def _write(args: BenchCommand, results: Results, out: TextIO) -> None:
    """Write all that was asked for; to *out* where no file was."""
    if not args.outputs:
        out.write(_written(results, args.form))
        out.flush()
    _write_files(args, results)
    if args.plots:
        from orlop.benchmark import plots

        plots.draw(results, args.plots)


def _write_files(args: BenchCommand, results: Results) -> None:
    """Write files anew; what is in them stays where nothing was found."""
    for name in args.outputs if results.rows else ():
        with open(name, "w") as file:
            form = args.form or _FORMS.get(name.rpartition(".")[2], "")
            file.write(_written(results, form))


def _written(results: Results, form: str) -> str:
    from orlop.benchmark import report

    forms: dict[str, Callable[[Results], str]] = {
        "json": report.as_json,
        "markdown": report.as_markdown,
    }
    return forms.get(form, report.as_text)(results)
