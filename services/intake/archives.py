"""Messages kept in files: an mbox, a Maildir, a folder of messages, or one message."""

import mailbox
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

LIMIT = 100 * 1024 * 1024
"""Bytes of one file that is read as one message: more than any intake accepts."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One message. `path` names it in a report (`archive.mbox#12`, counted from 0); `load` gives its bytes and
    raises `OSError`."""

    path: str
    load: Callable[[], bytes]


def messages_in(path: Path) -> Iterator[Kept]:
    """Every message under `path`, in an order that is the same each time.

    A file is an mbox where its name says so, or where it was named itself and begins like one. In a Maildir
    `tmp` is left out: what is there is not delivered yet. Raises `OSError`.
    """
    if path.is_dir():
        for folder, folders, files in os.walk(path):
            folders[:] = sorted(each for each in folders if not (each == "tmp" and "cur" in folders))
            for name in sorted(files):
                file = Path(folder, name)
                yield from _mbox(file) if _is_called_mbox(file) else [Kept(str(file), partial(one, file))]
    elif _is_called_mbox(path) or _begins_as_mbox(path):
        yield from _mbox(path)
    else:
        yield Kept(str(path), partial(one, path))


def one(file: Path) -> bytes:
    """A file that is one message, without the envelope line some programs put first."""
    with file.open("rb") as stream:
        raw = stream.read(LIMIT + 1)
    return raw.partition(b"\n")[2] if raw.startswith(b"From ") else raw


def _mbox(file: Path) -> Iterator[Kept]:
    box = mailbox.mbox(file, create=False)
    for key in box.keys():  # noqa: SIM118  (it is no dictionary: iterating gives messages, parsed)
        yield Kept(f"{file}#{key}", partial(box.get_bytes, key))


def _is_called_mbox(file: Path) -> bool:
    return file.suffix.lower() in (".mbox", ".mbx")


def _begins_as_mbox(file: Path) -> bool:
    with file.open("rb") as stream:
        return stream.read(5) == b"From "
