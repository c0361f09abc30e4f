"""Durable state: one document holds an aggregate, the messages it has taken and the events it has to publish."""

from shared.store.aggregates import Aggregates, Already, ClaimTaken
from shared.store.cause import Cause, Incoming, Outgoing
from shared.store.database import Store, Unavailable

__all__ = ["Aggregates", "Already", "Cause", "ClaimTaken", "Incoming", "Outgoing", "Store", "Unavailable"]
