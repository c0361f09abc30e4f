"""Declares on the broker what every service hears and says, and a queue for every partner.

Run before the services, and again when a service or a partner is added.
"""

import asyncio
import importlib
import os
import pkgutil
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import services
from services.triage.programme import load_programme
from shared.messaging.hears import Hears
from shared.messaging.topology import Topology, declare


def service_names() -> list[str]:
    """Every folder of `services/`; a new service is found by being there."""
    return sorted(module.name for module in pkgutil.iter_modules(services.__path__) if module.ispkg)


PROGRAMME = Path(__file__).parent / "programme" / "programme.yaml"


@cache
def partner_slugs() -> tuple[str, ...]:
    """The partners of the programme in the file PROGRAMME names, or of the one shipped."""
    programme = load_programme(Path(os.environ.get("PROGRAMME", PROGRAMME)))
    return tuple(partner.slug for partner in programme.partners)


def partner_queue(slug: str) -> str:
    return f"partner.{slug}.cases"


def topologies() -> list[Topology]:
    tables: list[Hears] = [
        importlib.import_module(f"services.{name}.handlers").hears for name in service_names()
    ]
    # Routing keys of what concerns a partner: the event's type, which has three words, and the slug.
    partners = tuple((partner_queue(slug), f"*.*.*.{slug}") for slug in partner_slugs())
    return [
        replace(made, outside=partners) if made.service == "triage" else made
        for made in map(Topology.of, tables)
    ]


def main() -> None:
    """Takes the administrator's AMQP URL, vhost included, from ADMIN_RABBITMQ_URL: it holds a password."""
    url = os.environ.get("ADMIN_RABBITMQ_URL")
    if not url:
        sys.exit("set ADMIN_RABBITMQ_URL=amqp://admin:password@host:5672/vhost")
    declared = topologies()
    asyncio.run(declare(url, declared))
    for topology in declared:
        print(f"{topology.service}: {', '.join(name for name, *_ in topology.queues) or 'hears nothing'}")
    for slug in partner_slugs():
        print(f"for {slug}: {partner_queue(slug)}")


if __name__ == "__main__":
    main()
