"""orlop events."""

from __future__ import annotations

from orlop.cli.options import Command, text, texts
from orlop.cli.output.listing import parse_filters
from orlop.cli.output.units import nano_time
from orlop.cli.values import moment
from orlop.errors import InvalidArgumentError
from orlop.model.plain import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from orlop.client.client import Client


class EventsCommand(Command):
    description = "Shows what happens to containers, images and volumes, as it happens."
    examples = (
        ("orlop events --filter event=die --format '{{.Actor.Attributes.name}}'", "who dies"),
        ("orlop events --since 1h --until 0s", "what happened in the last hour"),
    )

    filters = texts("-f", "--filter", metavar="KEY=VALUE", help="type, event, container, image, …")
    form = text("--format", metavar="TEMPLATE", help="a template, or json")
    since = text("--since", metavar="TIME", help="start time: 2026-01-31T12:00:00 or 10m")
    until = text("--until", metavar="TIME", help="end time")

    def run(self, client: Client, out: TextIO, err: TextIO) -> int:
        """Show them until --until, or until interrupted."""
        try:
            since, until = moment(self.since), moment(self.until)
        except ValueError as error:
            raise InvalidArgumentError(str(error)) from None
        filters = parse_filters(self.filters)
        template = None
        if self.form and self.form != "json":
            from orlop.model.gotemplate import Template

            template = Template(self.form)
        for event in client.system.events(since=since, until=until, filters=filters):
            if template is not None:
                line = template.render(event)
            else:
                line = _json(event) if self.form else describe(event)
            print(line, file=out, flush=True)
        return 0


def _json(event: dict[str, Any]) -> str:
    from orlop.model import jsontext

    return jsontext.dumps(event)


def describe(event: dict[str, Any]) -> str:
    """Return an event as a line, Docker's."""
    actor = event.get("Actor") or {}
    attributes = actor.get("Attributes") or {}
    pairs = ", ".join(f"{key}={value}" for key, value in sorted(attributes.items()))
    when = nano_time(int(event.get("timeNano") or 0))
    line = f"{when} {event['Type']} {event['Action']} {actor.get('ID', '')}"
    return one_line(f"{line} ({pairs})" if pairs else line)
