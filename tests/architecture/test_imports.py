"""Who may import whom. The rules are import-linter's, in pyproject.toml; here they are seen to bite."""

import re
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, SERVICES, copy_of_the_code, imported, lint_imports, modules


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return copy_of_the_code(tmp_path)


def test_every_import_keeps_to_the_rules_and_a_new_empty_service_is_no_trouble(code: Path) -> None:
    console = code / "services" / "console"
    console.mkdir(exist_ok=True)
    (console / "__init__.py").touch()
    answer = lint_imports(code)
    assert answer.returncode == 0, answer.stdout


AGAINST = [
    ("services.triage.handlers", "services.intake.domain", "Services meet only through events"),
    ("services.console.handlers", "services.triage.domain", "Services meet only through events"),
    ("services.mentoring.settings", "services.console.handlers", "Services meet only through events"),
    ("shared.clock", "services.triage.domain", "The kit knows no service"),
    ("services.triage.app", "deploy.topology", "The kit knows no service"),
    ("shared.contracts.triage", "shared.settings", "Contracts stand alone"),
    ("services.triage.domain", "shared.service", "Decisions and contracts do no I/O"),
    ("shared.store.aggregates", "motor", "Motor is named in one module"),
    ("services.intake.acceptance", "motor", "Motor is named in one module"),
    ("services.intake.acceptance", "pymongo", "spoken to by the kit alone"),
    ("services.notifications.sender", "aio_pika", "spoken to by the kit alone"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What is said of code that breaks every rule at once, in a service that nobody named anywhere too."""
    code = copy_of_the_code(tmp_path_factory.mktemp("broken"))
    for importer, wanted, _ in AGAINST:
        file = code / f"{importer.replace('.', '/')}.py"
        file.parent.mkdir(exist_ok=True)
        with file.open("a") as written:
            written.write(f"\nimport {wanted}\n")
    (code / "services" / "console" / "__init__.py").touch()
    answer = lint_imports(code)
    assert answer.returncode == 1, answer.stdout
    return answer.stdout.partition("Broken contracts")[2]


@pytest.mark.parametrize(("importer", "wanted", "rule"), AGAINST)
def test_an_import_against_a_rule_is_found(report: str, importer: str, wanted: str, rule: str) -> None:
    titles = [title for title in re.findall(r"^(.+)\n-+$", report, re.MULTILINE) if rule in title]
    assert len(titles) == 1, report
    section = re.split(
        r"^.+\n-+$", report.partition(titles[0])[2].lstrip("\n-"), maxsplit=1, flags=re.MULTILINE
    )[0]
    assert f"{importer} -> {wanted} (l." in section, section


def test_the_database_driver_is_named_in_one_module() -> None:
    naming = [path for path in modules("shared", "services", "deploy") if any_of("motor", imported(path))]
    assert naming == [ROOT / "shared/store/driver.py"]


def test_only_the_kit_speaks_to_the_broker_and_only_its_messaging_publishes() -> None:
    speaking = {
        path.relative_to(ROOT).as_posix()
        for path in modules("shared", "services")
        if any_of("faststream", imported(path)) or any_of("aio_pika", imported(path))
    }
    assert speaking <= {"shared/service.py"} | {
        f"shared/messaging/{path.name}" for path in modules("shared/messaging")
    }
    publishing = {
        path.relative_to(ROOT).as_posix()
        for path in modules("shared", "services")
        if ".publish(" in path.read_text()
    }
    assert publishing == {
        "shared/messaging/publisher.py",
        "shared/messaging/delivery.py",  # to retry tiers and the dead-letter queue
        "shared/store/outbox.py",  # what is durable, through the publisher it is given
    }


def any_of(package: str, names: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in names)


def test_there_are_services_to_test() -> None:
    assert {"intake", "triage", "mentoring", "notifications"} <= set(SERVICES)
