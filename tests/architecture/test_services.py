"""Each service has the shape the next one is copied from, and says of itself what is so."""

import ast
import importlib

import pytest

import shared.contracts
from shared.contracts.cloudevents import EVENT_TYPES, CloudEvent
from shared.messaging.hears import Hears
from tests.architecture.tree import ROOT, SERVICES, imported, modules, syntax

for contract in (ROOT / "shared" / "contracts").glob("*.py"):
    importlib.import_module(f"{shared.contracts.__name__}.{contract.stem}")


def family(kind: type[CloudEvent]) -> str:
    return kind.event_type().rsplit(".", 1)[0]


def heard_by(service: str) -> list[type[CloudEvent]]:
    table: Hears = importlib.import_module(f"services.{service}.handlers").hears
    return [subscription.kind for subscription in table.subscriptions]


def said_by(service: str) -> list[type[CloudEvent]]:
    """What its app.py gives as `says`, read and not run: running needs a broker."""
    by_name = {kind.__name__: kind for kind in EVENT_TYPES.values()}
    for node in ast.walk(syntax(ROOT / "services" / service / "app.py")):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Service":
            for keyword in node.keywords:
                if keyword.arg == "says" and isinstance(keyword.value, ast.List):
                    return [by_name[name.id] for name in keyword.value.elts if isinstance(name, ast.Name)]
            return []
    raise AssertionError(f"services/{service}/app.py puts no Service together")


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_has_the_files_every_service_has(service: str) -> None:
    there = {path.name for path in (ROOT / "services" / service).iterdir()}
    assert {"__init__.py", "app.py", "settings.py", "handlers.py"} <= there
    if said_by(service):
        assert {"domain.py", "events.py"} <= there, "what it says, it decided"
    assert not there & {"utils.py", "helpers.py", "manager.py", "common.py", "misc.py"}


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_says_in_three_lines_what_it_owns_hears_and_says(service: str) -> None:
    written = importlib.import_module(f"services.{service}").__doc__ or ""
    lines = [line for line in written.splitlines() if line]
    assert len(lines) == 3
    owns, hears, says = lines
    assert owns.startswith("Owns ")
    assert hears == told("Hears", [family(kind) for kind in heard_by(service)])
    assert says == told("Says", [family(kind) for kind in said_by(service)])
    assert list((ROOT / "services" / service / "__init__.py").read_text().splitlines())[-1] == '"""', (
        "and no more"
    )


def told(word: str, families: list[str]) -> str:
    return f"{word} {', '.join(families) or 'nothing yet'}."


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_says_events_that_bear_its_name(service: str) -> None:
    assert {kind.publisher() for kind in said_by(service)} <= {service}
    assert set(said_by(service)) == {kind for kind in EVENT_TYPES.values() if kind.publisher() == service}


def test_every_event_that_is_said_is_heard_by_somebody() -> None:
    """An event without a queue is returned by the broker, and its outbox would never empty."""
    heard = {kind for service in SERVICES for kind in heard_by(service)}
    said = {kind for service in SERVICES for kind in said_by(service)}
    assert said == heard == set(EVENT_TYPES.values())


@pytest.mark.parametrize("service", SERVICES)
def test_only_events_py_builds_events(service: str) -> None:
    kinds = {kind.__name__ for kind in EVENT_TYPES.values()}
    for path in modules(f"services/{service}"):
        if path.name == "events.py":
            continue
        for node in ast.walk(syntax(path)):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                assert name not in kinds, f"{path.name}:{node.lineno} builds {name}"


@pytest.mark.parametrize(
    "path",
    [path for path in modules("services") if path.name in {"domain.py", "events.py"}],
    ids=lambda path: path.parts[-2],
)
def test_decisions_have_no_clock_and_no_chance(path) -> None:  # type: ignore[no-untyped-def]
    assert not imported(path) & {
        "random",
        "secrets",
        "time",
        "os",
        "socket",
        "asyncio",
        "logging",
        "structlog",
    }
    called = {
        node.func.attr
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not called & {"now", "utcnow", "today", "uuid4", "uuid1"}
