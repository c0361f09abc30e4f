"""References: short, unique enough, forgiving to read and strict about typing errors."""

import itertools
from uuid import uuid4

import pytest

from services.intake.reference import ALPHABET, find, parse, reference_for

ID = "0123456789abcdef0123456789abcdef"
EXAMPLE = reference_for(ID)


def test_reference_follows_from_the_id_alone():
    assert EXAMPLE == reference_for(ID) == "MSP-EB2Z-7S"


def test_another_attempt_gives_another_reference():
    assert len({reference_for(ID, attempt) for attempt in range(50)}) == 50


def test_references_spread_over_all_there_are():
    references = {reference_for(uuid4().hex) for _ in range(2_000)}
    assert len(references) > 1_990
    assert {character for reference in references for character in reference[4:8]} == set(ALPHABET)


@pytest.mark.parametrize(
    "change",
    [
        str,
        str.lower,
        lambda text: text.replace("-", ""),
        lambda text: text.replace("-", " "),
        lambda text: text.replace("-", "\u2013"),
        lambda text: text.removeprefix("MSP-"),
        lambda text: f"  {text}\n",
        lambda text: text.replace("0", "O"),
        lambda text: text.replace("0", "o"),
        lambda text: text.replace("1", "I"),
        lambda text: text.replace("1", "l"),
    ],
)
def test_reference_is_understood_however_it_is_typed(change):
    for attempt in range(200):
        reference = reference_for(ID, attempt)
        assert parse(change(reference)) == reference


@pytest.mark.parametrize(
    "text", ["", "MSP", "MSP-7F3K", "MSP-7F3K-2Q2Q", "ABC-7F3K-2Q", "MSP-7F3U-2Q", "é" * 6]
)
def test_what_is_no_reference_is_none(text):
    assert parse(text) is None


def test_every_single_wrong_character_is_noticed():
    plain = EXAMPLE.removeprefix("MSP-").replace("-", "")
    for place, other in itertools.product(range(len(plain)), ALPHABET):
        wrong = plain[:place] + other + plain[place + 1 :]
        assert (parse(wrong) is None) == (wrong != plain)


def test_nearly_every_swap_of_neighbours_is_noticed():
    swaps = missed = 0
    for attempt in range(500):
        plain = reference_for(ID, attempt).removeprefix("MSP-").replace("-", "")
        for place in range(len(plain) - 1):
            if plain[place] != plain[place + 1]:
                swapped = plain[:place] + plain[place + 1] + plain[place] + plain[place + 2 :]
                swaps += 1
                missed += parse(swapped) is not None
    assert missed / swaps < 0.01


def test_reference_is_found_in_a_subject():
    assert find(f"Re: [{EXAMPLE.lower()}] our enquiry") == EXAMPLE
    assert find(f"Fwd: {EXAMPLE}: {EXAMPLE}") == EXAMPLE
    assert find("our enquiry about MSP rules") is None
    assert find(f"X{EXAMPLE}") is None
