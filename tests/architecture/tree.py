"""What the architecture tests read: the project's files, as text and as syntax."""

import ast
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from deploy.topology import service_names

ROOT = Path(__file__).resolve().parents[2]
CODE = ("shared", "services", "deploy")
IGNORED = {".git", ".venv", ".local", ".ci", "__pycache__", "node_modules"}

SERVICES = service_names()


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imported(path: Path) -> set[str]:
    """Every module a file imports, wherever in it."""
    found = set()
    for node in ast.walk(syntax(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def kept_files() -> list[Path]:
    """What is in the repository or about to be: by git's word, or all there is where it is no repository."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        listed = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split("\0")
        return [ROOT / name for name in listed if name and (ROOT / name).is_file()]
    return [path for path in ROOT.rglob("*") if path.is_file() and not IGNORED & set(path.parts)]


def copy_of_the_code(into: Path) -> Path:
    for folder in CODE:
        shutil.copytree(
            ROOT / folder, into / folder, ignore=shutil.ignore_patterns("__pycache__", "demo", "local")
        )
    shutil.copy(ROOT / "pyproject.toml", into)
    return into


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
