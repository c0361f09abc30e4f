"""Triage's command line: why a case is where it is, and what a person decides about it. It asks the running
service."""

import json
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from shared.cli import DEFAULT_FILE, AsJson, OperatorFile, Services, cell, plain, show

app = typer.Typer(no_args_is_help=True, add_completion=False, help="What triage's operators do.")
conflicts = typer.Typer(no_args_is_help=True, help="Conflicts of interest: list, add, end.")
app.add_typer(conflicts, name="conflicts")

Reference = Annotated[str, typer.Argument(help="The case's reference, such as MSP-7F3K-2Q.")]
Operator = Annotated[str, typer.Option(help="Your name, for the record.")]
Reason = Annotated[str, typer.Option(help="Why, for the record.")]
Revision = Annotated[
    int, typer.Option(help="The revision you looked at; 0 takes the case as it is now.", min=0)
]


def _case(services: Services, reference: str) -> dict[str, Any]:
    written, enquiry = services.enquiry(reference)
    found: dict[str, Any] | None = services.ask("triage", f"/cases/{enquiry}")
    if found is None:
        typer.echo(f"Triage has no case {written} yet.", err=True)
        raise typer.Exit(1)
    return found


def _decide(
    services: Services, reference: str, what: str, command: dict[str, Any], revision: int = 0
) -> None:
    """Send one decision about the case as it is, or as it was seen to be."""
    case = _case(services, reference)
    given = {**command, "revision": revision or case["revision"]}
    answer = services.ask("triage", f"/cases/{case['enquiry_id']}/{what}", given)
    partner = f" with {answer['partner']}" if answer["partner"] else ""
    typer.echo(f"{answer['reference']} is {answer['status']}{partner} (revision {answer['revision']}).")


@app.command()
def explain(
    reference: Reference, operator_file: OperatorFile = DEFAULT_FILE, as_json: AsJson = False
) -> None:
    """Say why a case is where it is: rules and words, scores, partners looked at, offers, people's decisions."""
    services = Services.read(operator_file)
    case = _case(services, reference)
    if as_json:
        typer.echo(json.dumps(case, indent=2))
    else:
        typer.echo(plain(services.ask("triage", f"/cases/{case['enquiry_id']}/explanation")["text"]))


@app.command()
def held(
    status: Annotated[str, typer.Option(help="held, routed, accepted, closed or merged")] = "held",
    aside: Annotated[bool, typer.Option(help="also what was set aside as out of scope or automatic")] = False,
    operator_file: OperatorFile = DEFAULT_FILE,
    as_json: AsJson = False,
) -> None:
    """List the cases that wait for a decision, or those of another status."""
    found = Services.read(operator_file).ask("triage", f"/cases?status={status}&limit=1000")
    if not aside:
        found = [case for case in found if case["disposition"] not in ("out-of-scope", "auto")]
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table(title=f"{len(found)} cases {status}")
    for column in ("reference", "revision", "taken for", "partner", "reason", "why"):
        table.add_column(column, overflow="fold")
    for case in found:
        words = (case["disposition"], case["partner"] or "–", case["reason"], case["why"])
        table.add_row(case["reference"], str(case["revision"]), *map(cell, words))
    show(table)


@app.command()
def route(
    reference: Reference,
    stream: Annotated[str, typer.Argument(help="advice or pilot")],
    *,
    operator: Operator,
    reason: Reason,
    area: Annotated[list[str] | None, typer.Option(help="main need first; may be given again")] = None,
    theme: Annotated[str | None, typer.Option(help="of a pilot")] = None,
    mentoring: Annotated[str | None, typer.Option(help="one-to-one or peer-network")] = None,
    partner: Annotated[str | None, typer.Option(help="this one, rather than the best")] = None,
    language: str | None = None,
    region: str | None = None,
    revision: Revision = 0,
    operator_file: OperatorFile = DEFAULT_FILE,
) -> None:
    """Offer a case to a partner; what triage had made of it is corrected, and taught to the next model."""
    command = {
        "who": operator,
        "why": reason,
        "stream": stream,
        "areas": area or [],
        "pilot_theme": theme,
        "mentoring": mentoring,
        "partner": partner,
        "language": language,
        "region": region,
    }
    _decide(Services.read(operator_file), reference, "route", command, revision)


@app.command("set-aside")
def set_aside(
    reference: Reference,
    *,
    operator: Operator,
    reason: Reason,
    disposition: Annotated[str, typer.Option(help="out-of-scope or auto")] = "out-of-scope",
    revision: Revision = 0,
    operator_file: OperatorFile = DEFAULT_FILE,
) -> None:
    """None of the programme's business. It can be recovered."""
    command = {"who": operator, "why": reason, "disposition": disposition}
    _decide(Services.read(operator_file), reference, "set-aside", command, revision)


@app.command()
def recover(
    reference: Reference,
    operator: Operator,
    reason: Reason,
    revision: Revision = 0,
    operator_file: OperatorFile = DEFAULT_FILE,
) -> None:
    """Let what was set aside wait for a decision again."""
    _decide(Services.read(operator_file), reference, "recover", {"who": operator, "why": reason}, revision)


@app.command()
def close(
    reference: Reference,
    outcome: Annotated[
        str, typer.Argument(help="completed, ineligible, enquirer-withdrew, no-answer or other")
    ],
    *,
    operator: Operator,
    reason: Reason,
    revision: Revision = 0,
    operator_file: OperatorFile = DEFAULT_FILE,
) -> None:
    """Nothing more is to be done."""
    command = {"who": operator, "why": reason, "outcome": outcome}
    _decide(Services.read(operator_file), reference, "close", command, revision)


@app.command()
def reopen(
    reference: Reference,
    operator: Operator,
    reason: Reason,
    revision: Revision = 0,
    operator_file: OperatorFile = DEFAULT_FILE,
) -> None:
    """Let a closed or merged case wait for a decision again."""
    _decide(Services.read(operator_file), reference, "reopen", {"who": operator, "why": reason}, revision)


@app.command()
def merge(
    reference: Reference,
    into: Annotated[str, typer.Argument(help="The reference of the earlier case.")],
    *,
    operator: Operator,
    reason: Reason,
    revision: Revision = 0,
    operator_file: OperatorFile = DEFAULT_FILE,
) -> None:
    """The same organisation asked twice: make the later case a part of the earlier."""
    services = Services.read(operator_file)
    _, earlier = services.enquiry(into)
    _decide(services, reference, "merge", {"who": operator, "why": reason, "into": earlier}, revision)


@app.command()
def corrections(
    file: Annotated[Path, typer.Argument(help="such as deploy/programme/training/corrections.jsonl")],
    operator_file: OperatorFile = DEFAULT_FILE,
) -> None:
    """Write what operators corrected as labelled mails, which `make train` learns from."""
    found = Services.read(operator_file).ask("triage", "/corrections")
    lines = [json.dumps(each, ensure_ascii=False) + "\n" for each in found]
    file.write_text("".join(lines), encoding="utf-8")
    typer.echo(f"{len(found)} corrections written to {file}.")


@conflicts.command("list")
def list_conflicts(operator_file: OperatorFile = DEFAULT_FILE, as_json: AsJson = False) -> None:
    """List every conflict of interest on record."""
    found = Services.read(operator_file).ask("triage", "/conflicts")
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table(title="Conflicts of interest")
    for column in ("id", "partner", "with", "from", "to", "who", "why"):
        table.add_column(column, overflow="fold")
    for one in found:
        whom = " / ".join(filter(None, (one["organisation"], one["domain"])))
        words = (whom, one["starts"], one["ends"] or "–", one["who"], one["why"])
        table.add_row(one["id"], one["partner"], *map(cell, words))
    show(table)


@conflicts.command()
def add(
    partner: Annotated[str, typer.Argument(help="The partner's slug.")],
    *,
    operator: Operator,
    reason: Reason,
    organisation: Annotated[str, typer.Option(help="a name, looked for in what people write")] = "",
    domain: Annotated[str, typer.Option(help="of the enquirer's address")] = "",
    starts: Annotated[str | None, typer.Option("--from", help="YYYY-MM-DD; today if left out")] = None,
    ends: Annotated[str | None, typer.Option("--to", help="YYYY-MM-DD; for good if left out")] = None,
    operator_file: OperatorFile = DEFAULT_FILE,
) -> None:
    """Record that a partner may not advise somebody: it loses what it has of theirs, and can't read it."""
    command = {"partner": partner, "organisation": organisation, "domain": domain, "who": operator}
    days = {name: str(date.fromisoformat(day)) for name, day in (("starts", starts), ("ends", ends)) if day}
    made = Services.read(operator_file).ask("triage", "/conflicts", {**command, "why": reason, **days})
    typer.echo(f"Conflict {made['id']} recorded.")


@conflicts.command()
def end(id: str, operator: Operator, reason: Reason, operator_file: OperatorFile = DEFAULT_FILE) -> None:
    """The conflict stands no more."""
    command = {"who": operator, "why": reason}
    if Services.read(operator_file).ask("triage", f"/conflicts/{id}/end", command) is None:
        typer.echo(f"There is no conflict {plain(id)!r}.", err=True)
        raise typer.Exit(1)
    typer.echo(f"Conflict {id} ended.")


if __name__ == "__main__":
    app()
