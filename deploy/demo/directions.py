"""What to look at when the demo has run, as commands that can be copied."""

import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

from deploy.demo.figures import Books
from deploy.demo.kept import Folder, write_private
from deploy.demo.options import ROOT, STATE
from deploy.demo.screen import Screen, shown
from deploy.local.pipeline import ADDRESS, Pipeline
from deploy.local.process import LOOPBACK
from deploy.local.servers import Servers

FORM = {
    "name": "Ada Byron",
    "email": "ada@ourmutual.example",
    "subject": "Legal advice",
    "message": "We are a staff-owned mutual that left the council in 2016. Please help us with our lease.",
}


def write_operator_file(held: Folder, pipeline: Pipeline) -> Path:
    """Where the services answer and the operators' token, for `shared.cli`."""
    file = ROOT / ".local" / "operator.json" if held.path == STATE else held.path / "operator.json"
    urls = {name: service.url for name, service in pipeline.services.items()}
    write_private(file, json.dumps({"token": pipeline.operator_token, "services": urls}, indent=1))
    return file


def directions(screen: Screen, pipeline: Pipeline, servers: Servers, books: Books, held: Folder) -> None:
    header = held.path / "web-form.header"
    write_private(header, f"Authorization: Bearer {pipeline.web_form_key}\n")
    python = Path(sys.executable)
    command = shown(python) if python.is_relative_to(ROOT) else str(python)
    default = held.path == STATE
    operator = "" if default else f" --operator-file {held.path / 'operator.json'}"
    maildir = "" if default else f" --maildir {held.mail}"
    pairs: dict[str, str] = {}
    example = books.example()
    if example:
        pairs["One enquiry's story"] = (
            f"{command} -m shared.cli case {example.reference}{operator}\n"
            f"(a session with {example.mentor} on {example.starts:%A %-d %B %Y at %H:%M}, Europe/London)"
        )
        pairs["Its mails"] = f"{command} -m deploy.demo.mails {example.reference}{maildir}"
    pairs["All mails"] = (
        f"{command} -m deploy.demo.mails{maildir}   or any mail reader: mutt -f {shown(held.mail)}"
    )
    pairs["Failed messages"] = f"{command} -m shared.cli failed list{operator}"
    pairs["RabbitMQ"] = _broker(servers, held)
    for name, service in pipeline.services.items():
        pairs[name.capitalize()] = f"{service.url}/docs   {service.url}/asyncapi   {service.url}/metrics"
    pairs["One more, by form"] = (
        f"curl -H @{shown(header)} -H 'Content-Type: application/json'"
        f' -H "Idempotency-Key: $RANDOM-$RANDOM"'
        f" -d '{json.dumps(FORM)}' {pipeline.services['intake'].url}/enquiries"
    )
    pairs["One more, by mail"] = (
        f"{command} -c \"import smtplib; smtplib.SMTP('{LOOPBACK}', {pipeline.smtp_port}).sendmail("
        f"'you@ourmutual.example', ['{ADDRESS}'], 'From: You <you@ourmutual.example>\\r\\n"
        f"Subject: Accounts\\r\\n\\r\\n{FORM['message'].replace('our lease', 'our accounts')}')\""
    )
    pairs["Logs"] = shown(held.logs)
    screen.console.print()
    screen.title("What to look at next (it all keeps running; Ctrl-C stops it)")
    screen.pairs(pairs)


def _broker(servers: Servers, held: Folder) -> str:
    broker = servers.rabbitmq
    if broker.kind == "given":
        where = "user and password: as in RABBITMQ_URL"
    else:
        key = "docker/rabbitmq" if broker.kind == "docker" else "rabbitmq/admin"
        where = f"user {broker.user}, password: grep {key} {shown(held.servers / 'credentials.json')}"
    host = urlsplit(broker.management_url).netloc
    return f"{broker.management_url}   {where}" if host else where
