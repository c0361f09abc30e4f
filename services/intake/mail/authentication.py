"""The domains that a server whose word we trust says a message really comes from (RFC 8601).

authres, the library for this field, has had no release since 2019; what is needed of it is little.
"""

import re

from services.intake.mail.headers import Headers

FIELDS_LIMIT = 10
QUOTED = re.compile(r'"([^"]*)"')
PLAIN = re.compile(r"[^\s;()=]*")
COMMENT = re.compile(r"\([^()]*\)")
RESULT = re.compile(r"(dkim|spf|dmarc)(?:/\d+)?\s*=\s*pass\b", re.IGNORECASE)
PROPERTY = {
    "dkim": re.compile(r'\bheader\.(?:d|i)\s*=\s*"?([^\s;"]{1,320})', re.IGNORECASE),
    "spf": re.compile(r'\bsmtp\.mailfrom\s*=\s*"?([^\s;"]{1,320})', re.IGNORECASE),
    "dmarc": re.compile(r'\bheader\.from\s*=\s*"?([^\s;"]{1,320})', re.IGNORECASE),
}
DOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)


def authenticated_domains(headers: Headers, authserv_id: str) -> tuple[str, ...]:
    """Domains that passed DKIM, SPF or DMARC, in lower case, each once.

    Believed are the fields of `authserv_id` in the topmost run of them, which the receiving server put on last;
    anybody can send one below. That server must remove its own id from what comes in (RFC 8601 section 5).
    """
    if not authserv_id:
        return ()
    found: dict[str, None] = {}
    for value in headers.topmost("authentication-results", FIELDS_LIMIT):
        server, _, results = _uncommented(value).partition(";")
        if (server.split() or [""])[0].lower() != authserv_id.lower():
            continue
        for result in results.split(";"):
            if method := RESULT.match(result.strip()):
                for match in PROPERTY[method[1].lower()].finditer(result):
                    domain = match[1].strip("<>").rpartition("@")[2].lower().rstrip(".")
                    if DOMAIN.fullmatch(domain):
                        found[domain] = None
    return tuple(found)


def _uncommented(value: str) -> str:
    """Without comments, nested ones included, and without quoted text, in which anything may stand."""
    value = QUOTED.sub(lambda quoted: quoted[1] if PLAIN.fullmatch(quoted[1]) else "", value)
    for _ in range(5):
        value, count = COMMENT.subn(" ", value)
        if not count:
            break
    return value.partition("(")[0]
