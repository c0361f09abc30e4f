"""What is in the repository: no secret, nothing grown too large, nothing that names a machine."""

import ast
import re
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT, kept_files, modules, syntax

LINES = 440
SECRETS = {
    "private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*\n[A-Za-z0-9+/=]{20}"),
    "cloud key": re.compile(r"\b(AKIA|ASIA)[0-9A-Z]{16}\b"),
    "repository token": re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{36}|glpat-[A-Za-z0-9_-]{20})\b"),
    "chat token": re.compile(r"\bxox[baprs]-[A-Za-z0-9-]{10,}"),
    "web token": re.compile(r"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\."),
    # Credentials in a URL, unless they are words that stand for some (or come from a variable).
    "url with a password": re.compile(
        r"\b(?:amqps?|mongodb(?:\+srv)?|smtps?|https?)://[^\s:/@\"'{}$<>]+:"
        r"(?!password@|secret|topsecret|guest@|pw@|p@|x@|…|\*)[^\s:/@\"'{}$<>]{6,}@"
    ),
    "password assigned": re.compile(
        r"(?i)\b(?:password|passwd|secret|token|api_?key)\b\s*[:=]\s*[\"'](?=[^\"'\s]*\d)(?=[^\"'\s]*[A-Za-z])[A-Za-z0-9+/_=-]{16,}[\"']"
    ),
}


def text_of(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""


def test_no_file_holds_a_secret() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {kind}"
        for path in kept_files()
        for kind, pattern in SECRETS.items()
        if path.name != "uv.lock" and pattern.search(text_of(path))
    ]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEowIBAAKCAQEAnzyis1ZjfNB0bBgK",
        "url = amqp://triage:" + "h7Jk2mQ9x@broker/vhost",
        "password = '" + "h7Jk2mQ9xPz4Tn8W" + "'",
        "AKIA" + "IOSFODNN7EXAMPLE",
    ],
)
def test_a_secret_would_be_found(text: str) -> None:
    assert any(pattern.search(text) for pattern in SECRETS.values())


def test_what_a_run_leaves_behind_is_not_kept() -> None:
    kept = {path.relative_to(ROOT).parts[0] for path in kept_files()}
    assert not kept & {".local", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"}
    assert not [path for path in kept_files() if path.suffix in {".pyc", ".log", ".pem", ".key"}]


def test_no_module_is_too_long_to_read() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): count
        for path in modules("shared", "services")
        if (count := len(path.read_text().splitlines())) > LINES
    }
    assert long == {}, "make it a folder named for what it holds"


def test_every_module_opens_with_its_purpose() -> None:
    silent = [
        path.relative_to(ROOT).as_posix()
        for path in modules("shared", "services", "deploy")
        if path.read_text().strip() and not ast.get_docstring(syntax(path))
    ]
    assert silent == []


def test_no_test_is_skipped() -> None:
    skips = re.compile(r"pytest\.(?:skip|importorskip|xfail)\b|mark\.(?:skip|skipif|xfail)\b")
    here = Path(__file__)
    assert [path.name for path in modules("tests") if path != here and skips.search(path.read_text())] == []
