"""Every command in the README is one that runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.partition(" #")[0].strip()
    for block in BLOCKS
    for line in block.splitlines()
    if line.strip() and not line.strip().startswith("#")
]


def test_the_readme_shows_commands() -> None:
    assert len(COMMANDS) > 8


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_make_target_exists(command: str) -> None:
    target = shlex.split(command)[1]
    found = re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found, f"{command}: no such target"


def program(command: str) -> tuple[str, ...]:
    """The module and its subcommand words, without what a reader fills in."""
    words = [word for word in shlex.split(command) if "=" not in word.split("/")[0]]
    assert words[:2] == [".venv/bin/python", "-m"], command
    rest = [word for word in words[3:] if re.fullmatch(r"[a-z]+", word)]
    return (words[2], *rest)


@pytest.mark.parametrize(
    "command",
    [command for command in COMMANDS if "python -m" in command and "deploy.topology" not in command],
)
def test_module_runs_and_knows_the_options_shown(command: str) -> None:
    module, *words = program(command)
    subcommands = [word for word in words if word not in ("triage",)]
    done = subprocess.run(
        [sys.executable, "-m", module, *subcommands, "--help"],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    for option in re.findall(r"--[a-z-]+", command):
        assert option in done.stdout or option == "--help", f"{module} has no {option}"


def test_topology_says_what_it_needs() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "deploy.topology"],
        check=False,
        cwd=ROOT,
        env={"PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "ADMIN_RABBITMQ_URL" in done.stderr
