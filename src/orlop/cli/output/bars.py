"""Bars on a terminal, one a layer: what is being done, bytes, rate. Imported only when drawn."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from orlop.cli.screen import canvas
from orlop.model.plain import one_line, plain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO


def draw(messages: Iterable[dict[str, Any]], out: TextIO) -> None:
    """Draw *messages* as they come; lines that belong to no layer stay above and below the bars."""
    console = Console(file=canvas(out), highlight=False, markup=False, emoji=False)
    columns = (
        TextColumn("{task.fields[layer]}", style="cyan"),
        TextColumn("{task.description:<18}"),
        BarColumn(bar_width=30),
        _Bytes(),
        _Rate(),
    )
    closing: list[str] = []
    with Progress(*columns, console=console, transient=False) as progress:
        bars = _Bars(progress)
        for message in messages:
            if message.get("id") and not str(message.get("status", "")).startswith("Pulling from"):
                bars.show(message)
            else:
                closing.append(_text(message))
    for line in closing:
        console.print(line, soft_wrap=True)


class _Bytes(DownloadColumn):
    """Nothing where nothing is counted, in place of "0/0 bytes"."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.fields["counted"] else Text()


class _Rate(TransferSpeedColumn):
    """Nothing where nothing is counted, or no longer."""

    def render(self, task: Task) -> Text:
        counting = task.fields["counted"] and not task.finished
        return super().render(task) if counting else Text()


def _text(message: dict[str, Any]) -> str:
    if message.get("stream"):
        return plain(str(message["stream"]).rstrip("\n"))
    prefix = f"{message['id']}: " if message.get("id") else ""
    return one_line(f"{prefix}{message.get('status', '')}")


class _Bars:
    """The bars that are drawn, by what they are about."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}
        self._doing: dict[str, str] = {}

    def show(self, message: dict[str, Any]) -> None:
        """Move the bar of one layer, or begin it."""
        name, status = one_line(str(message["id"])), one_line(str(message.get("status") or ""))
        detail = message.get("progressDetail") or {}
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(
                status, total=None, layer=name[:19], counted=False
            )
        task = self._tasks[name]
        if self._doing.get(name) != status:
            self._doing[name] = status
            if detail:  # another stage counts from nothing again
                self._progress.reset(task, description=status)
        if detail.get("total"):
            self._progress.update(
                task,
                description=status,
                completed=detail.get("current", 0),
                total=detail["total"],
                counted=True,
            )
            return
        self._progress.update(task, description=status)
        if not detail and self._progress.tasks[task].total is None:  # nothing to count
            self._progress.update(task, total=1, completed=1)
