"""Declares on the broker what every service hears and says. Run before the services, and again when one is added."""

import asyncio
import importlib
import os
import pkgutil
import sys

import services
from shared.messaging.hears import Hears
from shared.messaging.topology import Topology, declare


def service_names() -> list[str]:
    """Every folder of `services/`; a new service is found by being there."""
    return sorted(module.name for module in pkgutil.iter_modules(services.__path__) if module.ispkg)


def topologies() -> list[Topology]:
    tables: list[Hears] = [
        importlib.import_module(f"services.{name}.handlers").hears for name in service_names()
    ]
    return [Topology.of(hears) for hears in tables]


def main() -> None:
    """Takes the administrator's AMQP URL, vhost included, from ADMIN_RABBITMQ_URL: it holds a password."""
    url = os.environ.get("ADMIN_RABBITMQ_URL")
    if not url:
        sys.exit("set ADMIN_RABBITMQ_URL=amqp://admin:password@host:5672/vhost")
    declared = topologies()
    asyncio.run(declare(url, declared))
    for topology in declared:
        print(f"{topology.service}: {', '.join(name for name, *_ in topology.queues) or 'hears nothing'}")


if __name__ == "__main__":
    main()
