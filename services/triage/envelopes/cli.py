"""The operators' command line for money: see an envelope and its movements, and move some."""

import json
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, cast
from uuid import uuid4

import typer
from rich.table import Table

from services.triage.envelopes.domain import pounds
from shared.cli import DEFAULT_FILE, AsJson, OperatorFile, Services, cell, local, show

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The streams' money: see it, move it.")

Stream = Annotated[str, typer.Argument(help="advice or pilot.")]
PURSES = ("limit", "reserved", "committed", "spent", "free", "matched")


@app.command("list")
def list_envelopes(operator_file: OperatorFile = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """Show what each stream has reserved, committed, spent and free."""
    found = _asked(operator_file, "/envelopes")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    _table("Envelopes", "stream", found, PURSES)


@app.command("show")
def show_envelope(
    stream: Stream, operator_file: OperatorFile = DEFAULT_FILE, as_json: AsJson = False
) -> None:
    """Show what each case has of a stream's money."""
    found = _asked(operator_file, f"/envelopes/{stream}")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    _table(
        f"{stream}: {pounds(found['free'])} of {pounds(found['limit'])} free",
        "reference",
        found["accounts"],
        ("reserved", "committed", "spent", "matched"),
    )


@app.command("movements")
def list_movements(
    stream: Stream,
    reference: Annotated[str, typer.Option(help="Only those of this enquiry.")] = "",
    operator_file: OperatorFile = DEFAULT_FILE,
    as_json: AsJson = False,
) -> None:
    """List every movement of a stream's money, with who and why."""
    enquiry = f"?enquiry={Services.read(operator_file).enquiry(reference)[1]}" if reference else ""
    found = _asked(operator_file, f"/envelopes/{stream}/movements{enquiry}")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table(title=f"Movements of {stream}, times in Europe/London")
    for column in ("", "time", "what", "amount", "enquiry", "partner", "who", "why"):
        table.add_column(column, overflow="fold", justify="right" if column in ("", "amount") else "left")
    for each in found:
        table.add_row(
            str(each["number"]),
            local(each["at"]),
            each["kind"],
            pounds(each["pence"]),
            each["reference"],
            cell(each["partner"]),
            cell(each["who"]),
            cell(each["why"]),
        )
    show(table)


@app.command("move")
def move_money(
    stream: Stream,
    kind: Annotated[
        str, typer.Argument(help="reserve, commit, spend, release, cancel, refund, match or unmatch.")
    ],
    reference: Annotated[str, typer.Argument(help="The enquiry, such as MSP-7F3K-2Q.")],
    amount: Annotated[str, typer.Argument(help="In pounds, such as 4800 or 4800.50.")],
    *,
    operator: Annotated[str, typer.Option(help="Your name, for the record.")],
    reason: Annotated[str, typer.Option(help="Why, for the record.")],
    operator_file: OperatorFile = DEFAULT_FILE,
) -> None:
    """Move money for an enquiry: reserve it, commit what is reserved, spend what is committed, or free it.

    `release` frees what is reserved, `cancel` what is committed and `refund` what was spent. `match` records what
    the applicant puts in, `unmatch` takes that back.
    """
    services = Services.read(operator_file)
    reference, enquiry = services.enquiry(reference)
    order = {
        "id": uuid4().hex,
        "kind": kind,
        "enquiry": enquiry,
        "pence": pence_of(amount),
        "operator": operator,
        "reason": reason,
    }
    answer = services.ask("triage", f"/envelopes/{stream}/movements", order)
    if answer is None:
        typer.echo(f"Triage has no case {reference}.", err=True)
        raise typer.Exit(1)
    typer.echo(
        f"{kind} {pounds(pence_of(amount))} for {reference}: {pounds(answer['free'])} of {stream} are free."
    )


def pence_of(amount: str) -> int:
    """Whole pence of an amount in pounds. Raises `typer.BadParameter`."""
    try:
        pence = Decimal(amount.replace(",", "").removeprefix("£")) * 100
        if pence == pence.to_integral_value() and pence > 0:
            return int(pence)
    except (InvalidOperation, ValueError, OverflowError):
        pass
    raise typer.BadParameter(f"{amount!r} is no amount in pounds and whole pence")


def _asked(operator_file: Any, path: str) -> Any:
    found = Services.read(operator_file).ask("triage", path)
    if found is None:
        typer.echo("Triage has no such envelope.", err=True)
        raise typer.Exit(1)
    return found


def _table(title: str, first: str, rows: list[dict[str, Any]], purses: tuple[str, ...]) -> None:
    table = Table(title=title)
    for column in (first, *purses):
        table.add_column(column, justify="left" if column == first else "right")
    for row in rows:
        table.add_row(str(row[first]), *(pounds(cast("int", row[purse])) for purse in purses))
    show(table)


if __name__ == "__main__":
    app()
