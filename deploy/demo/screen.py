"""What the demo shows: steps, progress, the table and what to look at next. Times are Europe/London."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol

from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.rule import Rule
from rich.table import Table

from deploy.demo.figures import Figures, Standing
from deploy.demo.messages import LONDON
from deploy.demo.options import ROOT

BAR = 12
PLAIN_WIDTH = 100
PLAIN_EVERY_SECONDS = 1.0
KINDS = {
    "acknowledgement": ("acknowledgement", "acknowledgements"),
    "case-for-partner": ("case to a partner", "cases to partners"),
    "held-for-operator": ("held case to operators", "held cases to operators"),
    "session-invitation": ("invitation", "invitations"),
    "mentoring-held-for-operator": ("held mentoring to operators", "held mentoring to operators"),
}
MENTORING = {
    "registered": ("noted for the peer network", "noted for the peer network"),
    "held": ("mentoring request held", "mentoring requests held"),
}
WAYS = {
    "smtp": "over SMTP",
    "lmtp": "over LMTP",
    "http-message": "over HTTP",
    "http-form": "by web form",
    "imap": "by IMAP",
    "pipe": "by pipe",
    "import": "by import",
}


class Watch(Protocol):
    """Shows how far it is; called several times a second."""

    def __call__(self, standing: Standing) -> None: ...


def london(instant: datetime) -> str:
    return f"{instant.astimezone(LONDON):%A %-d %B %Y, %H:%M}"


def shown(path: Path) -> str:
    """As somebody who stands in the project's folder would write it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


class Screen:
    """A terminal, or a file that gets plain lines."""

    def __init__(self) -> None:
        self.console = Console(highlight=False)
        if not self.console.is_terminal:
            self.console = Console(highlight=False, width=PLAIN_WIDTH)

    def gone(self) -> None:
        """The terminal was closed or the reader of a pipe has left: stopping must not fail for want of it."""
        self.console.quiet = True
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def title(self, text: str) -> None:
        self.console.print(Rule(f"[bold]{escape(text)}", align="left"))

    def step(self, text: str) -> None:
        self.console.print(f"[green]✓[/] {escape(text)}", soft_wrap=True)

    def started(self, text: str) -> None:
        """What the servers say while they start."""
        (self.note if "is taken" in text else self.step)(text)

    @contextmanager
    def busy(self, text: str) -> Iterator[Callable[[str], None]]:
        """Something that takes a while; gives what changes the words, which only a terminal shows."""
        if self.console.is_terminal:
            with self.console.status(escape(text)) as status:
                yield status.update
        else:
            yield lambda _: None

    def note(self, text: str) -> None:
        self.console.print(f"  [dim]{escape(text)}[/]", soft_wrap=True)

    def say(self, text: str) -> None:
        self.console.print(escape(text), soft_wrap=True)

    def trouble(self, text: str) -> None:
        self.console.print(f"[bold red]✗[/] {escape(text)}", soft_wrap=True)

    @contextmanager
    def watching(self, expected: int) -> Iterator[Watch]:
        """Bars on a terminal, lines now and then elsewhere; `expected` messages are to be accepted in all."""
        if not self.console.is_terminal:
            yield self._lines(expected)
            return
        columns = (
            TextColumn("  {task.description:<20}"),
            BarColumn(40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as progress:
            accepted = progress.add_task("messages accepted", total=expected)
            decided = progress.add_task("cases decided", total=expected)
            mails = progress.add_task("mails handed over", total=None)

            def show(standing: Standing) -> None:
                progress.update(accepted, completed=standing.accepted, total=max(expected, standing.accepted))
                progress.update(decided, completed=standing.decided, total=max(expected, standing.accepted))
                progress.update(mails, completed=standing.mails_settled, total=standing.mails_asked or None)

            yield show

    def _lines(self, expected: int) -> Watch:
        last, at = "", 0.0

        def show(standing: Standing) -> None:
            nonlocal last, at
            line = (
                f"accepted {standing.accepted} of {max(expected, standing.accepted)}, "
                f"decided {standing.decided}, mails {standing.mails_settled} of {standing.mails_asked}"
            )
            if line != last and time.monotonic() - at > PLAIN_EVERY_SECONDS:
                last, at = line, time.monotonic()
                self.note(line)

        return show

    def table(self, figures: Figures, title: str) -> None:
        self.console.print()
        self.title(title)
        self.console.print(Columns([_totals(figures), _routed(figures), _held(figures)], padding=(0, 2)))

    def pairs(self, pairs: Mapping[str, str]) -> None:
        """What something is, and how to see it. Nothing is wrapped: commands are there to be copied."""
        width = max(map(len, pairs))
        for name, text in pairs.items():
            for number, line in enumerate(text.splitlines()):
                label = f"[bold]{name:{width}}[/]" if number == 0 else " " * width
                self.console.print(f"{label}  {escape(line)}", soft_wrap=True)


def _table(heading: str, *, bars: bool = False) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column(heading, no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("", width=BAR if bars else None, style="cyan" if bars else "dim")
    return table


def _totals(figures: Figures) -> Table:
    table = _table("Messages")
    ways = ", ".join(f"{n} {WAYS.get(way, way)}" for way, n in figures.via.items())
    table.add_row("messages accepted", f"[bold]{figures.accepted}[/]", ways)
    table.add_row("cases", f"[bold]{figures.cases}[/]", "")
    table.add_row("  routed to a partner", str(figures.routed), "")
    table.add_row("  held", str(sum(figures.held.values())), "with the reason")
    rest = _words({k: n for k, n in figures.mentoring.items() if k != "booked"}, MENTORING)
    table.add_row("sessions booked", f"[bold]{figures.sessions}[/]", rest)
    table.add_row("mails sent", f"[bold]{figures.mails}[/]", _words(figures.mails_by_kind, KINDS))
    if failed := figures.notifications.get("failed"):
        table.add_row("[red]mails given up[/]", f"[red]{failed}[/]", "")
    if figures.failed_messages:
        table.add_row("[red]failed messages[/]", f"[red]{figures.failed_messages}[/]", "see below")
    colour = "red" if figures.left_in_queues else "green"
    table.add_row("messages left in any queue", f"[bold {colour}]{figures.left_in_queues}[/]", "")
    table.add_row("time taken", f"[bold]{figures.seconds:.1f} s[/]", "")
    return table


def _words(counts: Mapping[str, int], names: Mapping[str, tuple[str, str]]) -> str:
    return "\n".join(f"{n} {names.get(kind, (kind, kind))[n != 1]}" for kind, n in counts.items())


def _routed(figures: Figures) -> Table:
    table = _table(f"Routed ({figures.routed})", bars=True)
    for name, counts in (
        ("by stream", figures.stream),
        ("by main area or theme", figures.area),
        ("by partner", figures.partner),
    ):
        table.add_row(f"[dim]{name}[/]", "", "")
        _bars(table, counts, figures.routed, "  ")
    return table


def _held(figures: Figures) -> Table:
    table = _table(f"Held ({sum(figures.held.values())})", bars=True)
    _bars(table, figures.held, sum(figures.held.values()), "")
    return table


def _bars(table: Table, counts: Mapping[str, int], whole: int, indent: str) -> None:
    for name, n in counts.items():
        table.add_row(
            f"{indent}{escape(name.replace('-', ' '))}", str(n), "█" * round(BAR * n / max(whole, 1)) or "▏"
        )
