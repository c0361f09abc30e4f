"""Copies of labelled mails in which a sentence turns down something else, to train on beside them.

People say what they do not want as readily as what they want ("the lease is in hand"), and a model that has seen
few mails takes the word for the wish. A copy keeps its mail's labels, so only the words asked for are worth learning.
"""

import random
from typing import Any

from services.triage.classify.page import Mail

_OTHERS: dict[str, tuple[str, ...]] = {
    "legal": (
        "the lease", "the contract", "our articles", "the solicitors", "legal advice", "the TUPE agreement",
        "the transfer agreement", "data protection", "the constitution", "a lawyer", "the partnership agreement",
        "the small print", "procurement law",
    ),
    "financial": (
        "VAT", "the accounts", "our cash flow", "pricing", "the finances", "the budget", "the pension deficit",
        "an accountant", "the costings", "the money", "tax", "the bank loan", "reserves",
    ),
    "marketing": (
        "the website", "a new logo", "our brand", "publicity", "leaflets", "marketing", "social media", "the press",
        "promotion", "a brochure", "advertising", "communications",
    ),
    "human-resources": (
        "HR", "the staff consultation", "pay scales", "our policies", "recruitment", "the unions", "staff training",
        "the rota", "terms and conditions", "sickness absence", "contracts of employment", "redundancies",
    ),
    "business-planning": (
        "the business plan", "our strategy", "the tender", "the options appraisal", "an away day", "growth",
        "our five-year plan", "the business case", "forecasting demand", "planning",
    ),
    "partnership-working": (
        "working with charities", "the voluntary sector", "partnership working", "the VCSE pilot",
        "our work with local groups", "the charities",
    ),
    "service-broadening": (
        "new services", "adding another service", "broadening what we offer", "the pilot on new services",
        "branching out",
    ),
    "mentoring": ("a mentor", "the peer network", "networking", "mentoring", "meeting other mutuals"),
}  # fmt: skip
_DECLINING = (
    "We don't need help with {}.", "{} is in hand.", "{} has been taken care of.", "This isn't about {}.",
    "We've someone for {} already.", "We're fine for {}.", "I'm not asking about {}.",
    "Please don't send anybody about {}.", "The council's paying for {}.", "{} was sorted out last year.",
    "People assume we want help with {}; we don't.", "It's not {} that worries me.",
    "We had advice on {} in the spring and it's done.", "{} isn't the problem.", "Forget {}.",
    "{} we can manage ourselves.", "No questions about {}.", "A colleague is dealing with {}.",
)  # fmt: skip
_SHORT = 40  # characters; shorter lines are greetings and signatures


def declining(mail: Mail, labels: dict[str, Any], seed: str) -> Mail | None:
    """`mail` with one or two sentences more that turn down what its labels don't name, always the same ones
    for one `seed`. None where it was not routed, or has no line to put them in."""
    lines = mail.text.split("\n")
    places = [place for place, line in enumerate(lines) if len(line) > _SHORT]
    if labels["disposition"] != "route" or not places:
        return None
    chance = random.Random(seed)  # noqa: S311 - variety, not secrecy
    wanted = {*labels["areas"], labels["pilot_theme"], "mentoring" if labels["mentoring"] else None}
    others = [name for name in _OTHERS if name not in wanted]
    for _ in range(chance.choice((1, 1, 2))):
        thing = chance.choice(_OTHERS[chance.choice(others)])
        said = chance.choice(_DECLINING).format(thing)
        said = said[0].upper() + said[1:]
        place = chance.choice(places)
        first = chance.random() < 0.4
        lines[place] = f"{said} {lines[place]}" if first else f"{lines[place]} {said}"
    return mail._replace(text="\n".join(lines))
