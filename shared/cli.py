"""The operators' command line: one enquiry's whole story, and the messages that could not be handled.

It asks the services over HTTP with the operators' token; it reads no database.
"""

import json
import re
import unicodedata
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import quote
from zoneinfo import ZoneInfo

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

LONDON = ZoneInfo("Europe/London")

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="See what became of an enquiry, and decide about messages that could not be handled.",
)
failed = typer.Typer(no_args_is_help=True, help="Messages that could not be handled: list, replay, discard.")
app.add_typer(failed, name="failed")

OperatorFile = Annotated[
    Path,
    typer.Option(
        "--operator-file",
        envvar="MUTUALS_OPERATOR_FILE",
        help='JSON: {"token": "…", "services": {"intake": "http://…", …}}; `make demo` writes one.',
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
REFERENCE = re.compile(r"MSP-[0-9A-Z]{4}-[0-9A-Z]{2}")
DEFAULT_FILE = Path(".local/operator.json")


@dataclass(frozen=True)
class Services:
    """Where the services answer, and the token they ask for."""

    urls: dict[str, str]
    token: str

    @classmethod
    def read(cls, file: Path) -> "Services":
        try:
            content = json.loads(file.read_text())
            return cls(content["services"], content["token"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise typer.BadParameter(f"{file} cannot be read ({error}); is the demo running?") from None

    def ask(self, service: str, path: str, command: dict[str, Any] | None = None) -> Any:
        """The service's answer as JSON, or None for a 404. Ends the program where it cannot be had."""
        try:
            with httpx.Client(headers={"Authorization": f"Bearer {self.token}"}, timeout=30) as client:
                url = self.urls[service] + path
                answer = client.get(url) if command is None else client.post(url, json=command)
        except KeyError:
            raise typer.BadParameter(f"no service {service!r}; there are {', '.join(self.urls)}") from None
        except httpx.HTTPError as error:
            typer.echo(f"{service} does not answer: {error}", err=True)
            raise typer.Exit(1) from None
        if answer.status_code == 404:
            return None
        try:
            found = answer.json()
        except ValueError:
            typer.echo(f"{service} gives no answer that makes sense; is it the service at {url}?", err=True)
            raise typer.Exit(1) from None
        if answer.is_error:
            said = found.get("detail", found) if isinstance(found, dict) else found
            typer.echo(f"{service} says {answer.status_code}: {plain(str(said))}", err=True)
            raise typer.Exit(1)
        return found

    def enquiry(self, reference: str) -> tuple[str, str]:
        """The reference as it is written, and the id of its enquiry. Ends the program where there is none."""
        reference = reference.strip().upper()
        if not REFERENCE.fullmatch(reference):
            typer.echo(f"{plain(reference)!r} is no reference; one looks like MSP-7F3K-2Q.", err=True)
            raise typer.Exit(1)
        found = [self.ask(name, f"/claims/{reference}") for name in self.urls]
        for answer in found:
            if answer:
                return reference, answer["correlation_id"]
        typer.echo(f"No enquiry has the reference {reference}.", err=True)
        raise typer.Exit(1)


def plain(text: str) -> str:
    """Text of unknown origin without what would steer a terminal; line ends and tabs stay."""
    return "".join("\ufffd" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c for c in text)


def cell(text: str) -> str:
    """The same for a table, where square brackets would be taken for markup."""
    return escape(plain(text))


def local(instant: str) -> str:
    return f"{datetime.fromisoformat(instant).astimezone(LONDON):%-d %b %Y %H:%M:%S.%f}"[:-3]


def show(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    console.print(table)


@app.command()
def case(
    reference: Annotated[str, typer.Argument(help="The enquiry's reference, such as MSP-7F3K-2Q.")],
    operator_file: OperatorFile = DEFAULT_FILE,
    as_json: AsJson = False,
) -> None:
    """Print one enquiry's whole story: what each service took, decided and said, in order of time."""
    services = Services.read(operator_file)
    reference, enquiry = services.enquiry(reference)
    lines = [
        {"service": name, **line}
        for name in services.urls
        for line in services.ask(name, f"/story/{enquiry}")
    ]
    lines.sort(key=lambda line: datetime.fromisoformat(line["at"]))  # as text, 07Z would come after 07.1Z
    if as_json:
        typer.echo(json.dumps({"reference": reference, "enquiry": enquiry, "story": lines}, indent=2))
        return
    table = Table(title=f"{reference} (enquiry {enquiry}), times in Europe/London")
    for column in ("time", "service", "took", "decided", "said", "as it stands"):
        table.add_column(column, overflow="fold")
    for line in lines:
        table.add_row(
            local(line["at"]),
            line["service"],
            cell(line["took"]),
            cell(line["outcome"]),
            cell(", ".join(line["said"])) or "–",
            cell(line["now"]),
        )
    show(table)


@app.command()
def health(operator_file: OperatorFile = DEFAULT_FILE) -> None:
    """Ask every service whether its broker and database answer; exit 1 if one does not."""
    services = Services.read(operator_file)
    well = True
    for name, url in services.urls.items():
        try:
            answer = httpx.get(f"{url}/health/ready", timeout=10)
            found, good = answer.text, answer.status_code == 200
        except httpx.HTTPError as error:
            found, good = str(error), False
        well &= good
        typer.echo(f"{'ok ' if good else 'BAD'} {name} {plain(found)}")
    if not well:
        raise typer.Exit(1)


@failed.command("list")
def list_failed(operator_file: OperatorFile = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """List the failed messages of every service, newest first."""
    services = Services.read(operator_file)
    messages = [
        {"service": name, **message} for name in services.urls for message in services.ask(name, "/failed")
    ]
    if as_json:
        typer.echo(json.dumps(messages, indent=2))
        return
    if not messages:
        typer.echo("No failed messages.")
        return
    table = Table(title="Failed messages")
    for column in ("service", "id", "queue", "failed", "times", "error"):
        table.add_column(column, overflow="fold")
    for message in messages:
        table.add_row(
            message["service"],
            message["id"],
            cell(message["queue"]),
            local(message["failed_at"]),
            str(message["times"]),
            cell(f"{message['error_type']}: {message['error']}"[:300]),
        )
    show(table)


def no_such(service: str, id: str) -> NoReturn:
    typer.echo(f"{service} has no failed message {plain(id)!r}.", err=True)
    raise typer.Exit(1)


@failed.command()
def replay(
    service: str,
    id: str,
    operator: Annotated[str, typer.Option(help="Your name, for the record.")],
    operator_file: OperatorFile = DEFAULT_FILE,
) -> None:
    """Send a failed message to its queue again. An effect it has had is not had twice."""
    path = f"/failed/{quote(id, safe='')}/replay"
    answer = Services.read(operator_file).ask(service, path, {"operator": operator})
    if answer is None:
        no_such(service, id)
    typer.echo(f"{id} sent to {answer['queue']} again.")


@failed.command()
def discard(
    service: str,
    id: str,
    operator: Annotated[str, typer.Option(help="Your name, for the record.")],
    reason: Annotated[str, typer.Option(help="Why it is given up.")],
    operator_file: OperatorFile = DEFAULT_FILE,
) -> None:
    """Give a failed message up, with a reason; it stays on record."""
    command = {"operator": operator, "reason": reason}
    answer = Services.read(operator_file).ask(service, f"/failed/{quote(id, safe='')}/discard", command)
    if answer is None:
        no_such(service, id)
    typer.echo(f"{id} discarded.")


if __name__ == "__main__":
    app()
