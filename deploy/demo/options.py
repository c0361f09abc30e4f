"""What the demo is told, on the command line or by its environment."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".local" / "demo"

ENVIRONMENT = """
The same by environment, for `make demo`: FRESH=1, DEMO_ONCE=1, DEMO_JSON=FILE, DEMO_STATE=FOLDER.
RABBITMQ_URL and MONGODB_URL name servers to be used instead of ones of our own; RABBITMQ_MANAGEMENT_URL says
where the broker's management is, if not on port 15672 of its host.

Exit code: 0 when everything sent was dealt with, 1 when something went wrong, 128 + the signal's number when
a run with --once was stopped before its table.
"""


@dataclass(frozen=True)
class Options:
    """`once`: stop everything after the table. `report`: also write the table there, as JSON."""

    state: Path
    fresh: bool
    once: bool
    report: Path | None


def options() -> Options:
    def is_set(name: str) -> bool:
        return os.environ.get(name, "").strip().lower() not in {"", "0", "no", "false", "off"}

    parser = argparse.ArgumentParser(
        prog="python -m deploy.local.demo",
        description="Starts RabbitMQ, MongoDB, the services and a mail server, sends 120 mails through them\n"
        "and shows what became of them. Goes on from where the last run was.",
        epilog=ENVIRONMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--fresh", action="store_true", default=is_set("FRESH"), help="discard the last run's data"
    )
    parser.add_argument(
        "--once", action="store_true", default=is_set("DEMO_ONCE"), help="stop everything after the table"
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=os.environ.get("DEMO_JSON") or None,
        metavar="FILE",
        help="write the table there as well",
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=os.environ.get("DEMO_STATE") or STATE,
        metavar="FOLDER",
        help="where data, mails, logs and credentials are kept (default: .local/demo)",
    )
    given = parser.parse_args()
    report = given.json.resolve() if given.json else None
    if report and (report.is_dir() or not report.parent.is_dir()):
        parser.error(f"{report} is not a file in a folder that exists")
    return Options(given.state.resolve(), given.fresh, given.once, report)
