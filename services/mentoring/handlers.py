"""All that mentoring hears."""

from functools import partial

from services.mentoring.domain import Outcome, Session, book, claim_ranges
from services.mentoring.openings import Openings
from shared.clock import Clock
from shared.contracts.triage import MentoringRequested
from shared.messaging.hears import Hears
from shared.store import Aggregates, ClaimTaken

hears = Hears("mentoring")

Sessions = Aggregates[Session, Outcome]

RACES = 50
"""Lost races for a time before the request waits in a retry tier: each one lost is one that somebody won."""


@hears(MentoringRequested, prefetch=20)
async def book_session(
    event: MentoringRequested, sessions: Sessions, openings: Openings, clock: Clock
) -> None:
    """Books the earliest time that suits mentor and mentee."""
    now = clock()
    for race in range(RACES):
        taken = await sessions.claimed(claim_ranges(event, openings.mentors, now))
        decide = partial(book, event=event, openings=openings, taken=taken, now=now)
        try:
            await sessions.apply(event, decide)
            return
        except ClaimTaken:
            if race == RACES - 1:
                raise
