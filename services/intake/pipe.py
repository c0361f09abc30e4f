"""One message from standard input, for a mail server's pipe: `python -m services.intake.pipe`.

Ends with 0 only when the message is durable, with 65 (EX_DATAERR) where it will never be accepted as it is,
and with 75 (EX_TEMPFAIL) for everything else, so that the mail server keeps it and tries again (sysexits.h).
Where intake is, and the file with the key, come from MUTUALS_INTAKE_URL and MUTUALS_INTAKE_KEY_FILE.
"""

import os
import sys
from collections.abc import Callable

from services.intake.sending import Gateway, NotNow, Refused

LIMIT = 100 * 1024 * 1024
"""Bytes held in memory; intake's own limit is lower."""


def main(read: Callable[[int], bytes] = sys.stdin.buffer.read) -> int:
    if sys.argv[1:]:
        print(__doc__)  # noqa: T201
        return 0 if sys.argv[1:] in (["-h"], ["--help"]) else os.EX_TEMPFAIL
    try:
        _hand_over(read(LIMIT + 1))
    except Refused as error:
        return _end(os.EX_DATAERR, str(error))
    except NotNow as error:
        return _end(os.EX_TEMPFAIL, str(error))
    except Exception as error:
        return _end(os.EX_TEMPFAIL, type(error).__name__)
    return os.EX_OK


def _hand_over(raw: bytes) -> None:
    if len(raw) > LIMIT:
        raise Refused("the message is too large")
    if raw.startswith(b"From "):  # the envelope line of an mbox, which mail servers' pipes put first
        raw = raw.partition(b"\n")[2]
    Gateway().send(raw, "pipe")


def _end(code: int, why: str) -> int:
    print(f"not accepted: {why}", file=sys.stderr)  # noqa: T201
    return code


if __name__ == "__main__":
    sys.exit(main())
