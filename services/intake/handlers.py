"""All that intake hears: nothing yet. What comes in reaches it by mail and HTTP."""

from shared.messaging.hears import Hears

hears = Hears("intake")
