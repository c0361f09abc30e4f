"""When applications are open, as acknowledgements tell it: read from the same programme file as triage's, so that
one mail says it all and nobody is written to twice."""

from datetime import datetime
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import yaml
from pydantic import BaseModel, ConfigDict

Applications = Literal["open", "closed", "over"]


class Window(BaseModel):
    """In wall time of the programme's zone; it includes `opens` but not `closes`."""

    model_config = ConfigDict(frozen=True)

    opens: datetime
    closes: datetime


class Windows(BaseModel):
    """What the programme file says of its windows; triage checks the whole of it. None: applications are always
    open."""

    model_config = ConfigDict(frozen=True)

    zone: str = "UTC"
    windows: tuple[Window, ...] = ()

    def at(self, moment: datetime) -> tuple[Applications, datetime | None]:
        """Whether applications are open at `moment`, or else when they open next."""
        zone = ZoneInfo(self.zone)
        wall = moment.astimezone(zone).replace(tzinfo=None)
        if not self.windows or any(window.opens <= wall < window.closes for window in self.windows):
            return "open", None
        following = min((window.opens for window in self.windows if window.opens > wall), default=None)
        return ("closed", following.replace(tzinfo=zone)) if following else ("over", None)


ALWAYS_OPEN = Windows()


def windows_in(programme: Path | None) -> Windows:
    """The windows of a programme file. Raises `OSError`, `yaml.YAMLError` or pydantic's `ValidationError`."""
    if programme is None:
        return ALWAYS_OPEN
    return Windows.model_validate(yaml.safe_load(programme.read_text(encoding="utf-8")))
