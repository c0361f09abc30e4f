"""Intake's command line: API keys, held messages, and mail kept in files brought in. It asks the running
service."""

import json
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress
from rich.table import Table

from services.intake.archives import Kept, messages_in
from services.intake.importing import bring, reported
from services.intake.sending import KEY_FILE, URL, Gateway, NotNow
from shared.cli import DEFAULT_FILE, AsJson, OperatorFile, Services, cell, local, plain, show

app = typer.Typer(no_args_is_help=True, add_completion=False, help="What intake's operators do.")
keys = typer.Typer(no_args_is_help=True, help="Keys of the clients that send enquiries over HTTP.")
app.add_typer(keys, name="keys")
held = typer.Typer(
    no_args_is_help=True, help="Messages that wait for an operator: list, join, begin, discard."
)
app.add_typer(held, name="held")

LINE = 100

Name = Annotated[str, typer.Argument(help="The client, such as web-form: lower case, digits, dots, hyphens.")]


@keys.command()
def create(name: Name, operator_file: OperatorFile = DEFAULT_FILE) -> None:
    """Make a key and print it, once: intake keeps only its hash."""
    key = secrets.token_urlsafe(32)
    digest = sha256(key.encode()).hexdigest()
    Services.read(operator_file).ask("intake", "/keys", {"name": name, "digest": digest})
    typer.echo(key)


@keys.command("list")
def list_keys(operator_file: OperatorFile = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """List every key there ever was, newest first."""
    found = Services.read(operator_file).ask("intake", "/keys")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table(title="API keys")
    for column in ("client", "status", "created", "revoked"):
        table.add_column(column)
    for key in found:
        revoked = local(key["revoked_at"]) if key["revoked_at"] else "–"
        table.add_row(cell(key["name"]), key["status"], local(key["created_at"]), revoked)
    show(table)


@keys.command()
def revoke(name: Name, operator_file: OperatorFile = DEFAULT_FILE) -> None:
    """Refuse this client's key from now on."""
    if Services.read(operator_file).ask("intake", f"/keys/{quote(name, safe='')}/revoke", {}) is None:
        typer.echo(f"No active key is called {plain(name)!r}.", err=True)
        raise typer.Exit(1)
    typer.echo(f"The key of {name} is revoked.")


Id = Annotated[str, typer.Argument(help="The message, by the id that `held list` shows.")]
Operator = Annotated[str, typer.Option(help="Your name, for the record.")]
Reason = Annotated[str, typer.Option(help="Why, for the record.")]


@held.command("list")
def list_held(operator_file: OperatorFile = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """List the messages that wait, newest first."""
    found = Services.read(operator_file).ask("intake", "/held")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    if not found:
        typer.echo("No held messages.")
        return
    table = Table(title="Held messages")
    for column in ("id", "came", "why", "may be about", "from", "subject"):
        table.add_column(column, overflow="fold")
    for each in found:
        table.add_row(
            each["id"],
            local(each["accepted_at"]),
            cell(each["reason"]),
            cell(", ".join(each["candidates"])) or "–",
            cell(each["from"]),
            cell(each["subject"]),
        )
    show(table)


@held.command("join")
def join_held(
    id: Id,
    reference: Annotated[str, typer.Argument(help="The enquiry it belongs to.")],
    *,
    operator: Operator,
    reason: Reason,
    party: Annotated[
        str, typer.Option(help="The part its writer plays: enquirer, partner, mentor, mentee, operator.")
    ] = "enquirer",
    operator_file: OperatorFile = DEFAULT_FILE,
) -> None:
    """Add a held message to an enquiry; who wrote it may go on with it from now on."""
    command = {"operator": operator, "reason": reason, "reference": reference, "party": party}
    _decide(operator_file, id, "join", command)


@held.command("begin")
def begin_held(
    id: Id, operator: Operator, reason: Reason, operator_file: OperatorFile = DEFAULT_FILE
) -> None:
    """Let a held message begin an enquiry of its own."""
    _decide(operator_file, id, "begin", {"operator": operator, "reason": reason})


@held.command("discard")
def discard_held(
    id: Id, operator: Operator, reason: Reason, operator_file: OperatorFile = DEFAULT_FILE
) -> None:
    """Make nothing of a held message; it stays on record."""
    _decide(operator_file, id, "discard", {"operator": operator, "reason": reason})


def _decide(operator_file: Path, id: str, what: str, command: dict[str, str]) -> None:
    answer = Services.read(operator_file).ask("intake", f"/held/{quote(id, safe='')}/{what}", command)
    if answer is None:
        typer.echo(f"No held message is called {plain(id)!r}.", err=True)
        raise typer.Exit(1)
    typer.echo(f"{id}: {answer['outcome']} {answer['reference']}".rstrip())


@app.command()
def reparse(
    *,
    operator: Annotated[str, typer.Option(help="Your name, for the record.")],
    reference: Annotated[str, typer.Argument(help="One enquiry's messages, such as MSP-7F3K-2Q.")] = "",
    held: Annotated[bool, typer.Option("--held", help="Those that wait for an operator.")] = False,
    every: Annotated[bool, typer.Option("--all", help="Every message.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Keep the change; else it is only shown.")] = False,
    operator_file: OperatorFile = DEFAULT_FILE,
) -> None:
    """Read kept messages again and show what would change. A held one is then decided about again."""
    if sum((bool(reference), held, every)) != 1:
        raise typer.BadParameter("say one of: a reference, --held, --all")
    services = Services.read(operator_file)
    enquiry = ""
    if reference:
        found = services.ask("intake", f"/claims/{quote(reference.strip().upper(), safe='')}")
        if found is None:
            typer.echo(f"No enquiry has the reference {plain(reference)}.", err=True)
            raise typer.Exit(1)
        enquiry = found["correlation_id"]
    read = changed = 0
    for id in _ids(services, f"held={str(held).lower()}&enquiry={enquiry}"):
        answer = services.ask("intake", f"/messages/{id}/reparse", {"operator": operator, "apply": apply})
        read += 1
        if answer is None or not answer["differences"]:
            continue
        changed += 1
        typer.echo(id)
        for each in answer["differences"]:
            typer.echo(f"  {each['field']}: {_line(each['kept'])} -> {_line(each['read'])}")
    done = "changed" if apply else "would change"
    typer.echo(f"{changed} of {read} messages {done}.")


def _ids(services: Services, query: str) -> Iterator[str]:
    after = ""
    while page := services.ask("intake", f"/messages?{query}&after={after}"):
        yield from page
        after = page[-1]


def _line(value: str) -> str:
    text = " ".join(plain(value).split())
    return text if len(text) <= LINE else f"{text[:LINE]}…"


@app.command("import")
def import_mail(
    paths: Annotated[
        list[Path], typer.Argument(help="Each an mbox, a Maildir, a folder of messages, or one.")
    ],
    report: Annotated[
        Path | None,
        typer.Option(help="JSON lines: what became of each. A run that was broken off goes on from it."),
    ] = None,
    url: Annotated[str | None, typer.Option(envvar=URL, help="Where intake answers.")] = None,
    key_file: Annotated[Path | None, typer.Option(envvar=KEY_FILE, help="File with an API key.")] = None,
) -> None:
    """Send kept messages to intake; exit 75 if it does not take them now, 1 if one was refused.

    What was accepted before is not accepted twice.
    """
    try:
        messages = [kept for path in paths for kept in messages_in(path)]
        done = reported(report) if report else frozenset()
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    left = [kept for kept in messages if kept.path not in done]
    if done:
        typer.echo(f"{len(messages) - len(left)} of {len(messages)} are in {report} already.", err=True)
    try:
        endings = _import(left, report, partial(Gateway, url, key_file))
    except NotNow as error:
        typer.echo(f"Broken off: {plain(str(error))}. The same command goes on from here.", err=True)
        raise typer.Exit(os.EX_TEMPFAIL) from None
    for ending, count in endings.most_common():
        typer.echo(f"{count:7} {ending}")
    if endings["refused"]:
        raise typer.Exit(1)


def _import(left: list[Kept], report: Path | None, connect: Callable[[], Gateway]) -> Counter[str]:
    with ExitStack() as stack:
        file = stack.enter_context(report.open("a")) if report else None
        bar = stack.enter_context(progress())
        task = bar.add_task("importing", total=len(left))
        return bring(connect, left, file, told=lambda _: bar.advance(task))


def progress() -> Progress:
    """A bar on a terminal, and nothing elsewhere."""
    console = Console(stderr=True)
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal)


if __name__ == "__main__":
    app()
