"""The reference people quote: short, readable aloud, and with a check character that catches typing errors.

Crockford's base 32 (no I, L, O or U: https://www.crockford.com/base32.html) with ISO/IEC 7064 hybrid
MOD 33,32: five characters and a check character, `MSP-7F3K-29`.
"""

import re
from hashlib import sha256

from stdnum.iso7064 import mod_37_36 as hybrid

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
DATA_CHARACTERS = 5  # 32 ** 5: 33 million references; the database's claim keeps them unique

READ_AS = str.maketrans("oOiIlL", "001111")
SHAPE = r"([0-9A-TV-Z]{4})[-\s\u2010-\u2015]?([0-9A-TV-Z]{2})"
ALONE = re.compile(rf"(?:MSP[-\s\u2010-\u2015]?)?{SHAPE}", re.IGNORECASE | re.ASCII)
WITHIN = re.compile(rf"(?<![0-9A-Z])MSP[-\s\u2010-\u2015]?{SHAPE}(?![0-9A-Z])", re.IGNORECASE | re.ASCII)


def reference_for(id: str, attempt: int = 0) -> str:
    """The reference of the enquiry `id` (hexadecimal). A clash is settled by asking with the next attempt."""
    number = int.from_bytes(sha256(f"{id}/{attempt}".encode()).digest()[:8], "big")
    data = "".join(ALPHABET[number >> 5 * place & 31] for place in range(DATA_CHARACTERS))
    return _written(data + str(hybrid.calc_check_digit(data, alphabet=ALPHABET)))


def parse(text: str) -> str | None:
    """What somebody typed as a reference, in its proper form; None where it is none or has a typing error.

    Lower case, missing or other dashes, a missing `MSP`, O for 0 and I or L for 1 are all understood.
    """
    match = ALONE.fullmatch(text.strip())
    return _checked(match) if match else None


def find(text: str) -> str | None:
    """The first reference without a typing error within a text, such as a subject line. `MSP` is needed."""
    return next((reference for match in WITHIN.finditer(text) if (reference := _checked(match))), None)


def _checked(match: re.Match[str]) -> str | None:
    characters = (match[1] + match[2]).translate(READ_AS).upper()
    return _written(characters) if hybrid.is_valid(characters, alphabet=ALPHABET) else None


def _written(characters: str) -> str:
    return f"MSP-{characters[:4]}-{characters[4:]}"
