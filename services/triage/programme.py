"""The programme as data: windows, streams, partners, routing and rules, read from one YAML file.

Whatever is wrong with the file is said with its line, all faults at once, before anything starts.
"""

from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from services.triage.classify.model import Model, ModelError, load_model
from services.triage.classify.words import Entry, Lexicon, parse_phrase
from shared.contracts.cloudevents import EmailAddress
from shared.contracts.triage import Area, MentoringKind, Stream, Theme

Need = Literal[Area, Theme]
Routable = Literal[Need, "mentoring"]
Cue = Literal["ask", "unwanted", "covered", "second", "main"]
AREAS: tuple[Area, ...] = get_args(Area)
THEMES: tuple[Theme, ...] = get_args(Theme)
MENTORING: tuple[MentoringKind, ...] = get_args(MentoringKind)
MODEL_FILE = "model.json"
ROUTABLE: tuple[Routable, ...] = (*AREAS, *THEMES, "mentoring")
CUES: tuple[Cue, ...] = get_args(Cue)

Slug = Annotated[str, Field(pattern=r"^[a-z0-9]+(?:-[a-z0-9]+)*$")]


class ProgrammeError(Exception):
    """The programme file can't be used. The message names file, line and fault, one a line."""


def _phrases(written: object) -> object:
    if isinstance(written, str):
        return tuple(phrase for part in written.replace("\n", ",").split(",") if (phrase := part.strip()))
    return written


def _unweighted(written: object) -> object:
    return {1.0: written} if isinstance(written, str) else written


Phrases = Annotated[tuple[str, ...], BeforeValidator(_phrases)]
Terms = Annotated[dict[float, Phrases], BeforeValidator(_unweighted), Field(min_length=1)]


class Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Window(Part):
    """An application window in wall time of the programme's zone; it includes `opens` but not `closes`."""

    name: str
    opens: datetime
    closes: datetime

    @model_validator(mode="after")
    def _in_order(self) -> "Window":
        if self.opens.tzinfo or self.closes.tzinfo:
            raise ValueError("opens and closes are wall times and carry no offset")
        if self.opens >= self.closes:
            raise ValueError("it closes before it opens")
        return self


class Advice(Part):
    envelope: Annotated[int, Field(gt=0)]
    day_rate: Annotated[int, Field(gt=0)]
    areas: tuple[Area, ...]


class Pilot(Part):
    envelope: Annotated[int, Field(gt=0)]
    day_rate: Annotated[int, Field(gt=0)]
    themes: tuple[Theme, ...]


class Streams(Part):
    """The two streams; `envelope` is in whole pounds, and so is `day_rate`, what a partner's working day costs."""

    advice: Advice
    pilot: Pilot


class Member(Part):
    """A delivery partner, a member on the days from `member_from` to `member_to`, both included. It takes
    work of `capacity_days` at a time. Where `languages` or `regions` are given it works in no others."""

    slug: Slug
    name: Annotated[str, Field(min_length=1)]
    address: EmailAddress
    member_from: date
    member_to: date
    capacity_days: Annotated[int, Field(ge=0)]
    languages: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()


class OfferTerms(Part):
    """How cases are offered: the working hours a partner has to answer, the working days a case of each need
    is expected to take, and whether cases go on being offered when every partner's capacity is used up, or
    are held."""

    answer_within_hours: Annotated[float, Field(gt=0)]
    days: dict[Routable, Annotated[float, Field(ge=0)]]
    when_full: Literal["offer", "hold"] = "offer"

    @model_validator(mode="after")
    def _complete(self) -> "OfferTerms":
        if missing := [need for need in ROUTABLE if need not in self.days]:
            raise ValueError(f"days lacks {', '.join(missing)}")
        return self


class Scoring(Part):
    """How much a passage counts by its role; see the comments in the programme file."""

    asked: Annotated[float, Field(gt=0)]
    beside_asked: float
    background: float
    early: float = 1.0
    late: float = 1.0
    background_limit: Annotated[float, Field(gt=0)]
    subject: float
    unwanted: float
    covered: float
    second: float
    main: float
    repeated: float
    quoted: float
    second_area: float


class Confidence(Part):
    """When a reading may be acted on: at least `route`. The rest are points, see the programme file."""

    route: Annotated[float, Field(ge=0, le=1)]
    smoothing: Annotated[float, Field(gt=0)]
    aside: float
    least_points: float
    least_points_of_strangers: float
    short: int
    mentoring_points: float
    topic_points: float
    certain_points: float


class Both(Part):
    """Two ingredients that together speak for a need."""

    need: Need
    both: tuple[str, str]
    weight: Annotated[float, Field(gt=0)]


class DispositionRule(Part):
    """Sends an enquiry aside when the weights of its distinct phrases reach `threshold`, and where it says
    `always`, whatever the model makes of it."""

    reason: Slug
    disposition: Literal["review", "out-of-scope", "auto"]
    says: str
    where: tuple[Literal["subject", "sender", "own", "signature", "quoted", "small-print"], ...]
    threshold: Annotated[float, Field(gt=0)]
    urgent: bool = False
    always: bool = False
    unless_need: float | None = None
    both_streams: float | None = None
    terms: Terms


class EligibilityRules(Part):
    left: Phrases
    staff_say: Annotated[Phrases, Field(alias="staff-say")]
    doubtful: Phrases
    relevant: Phrases


class Rules(Part):
    """The rule set: its version, its phrases with weights, and how they add up."""

    version: Annotated[str, Field(min_length=1)]
    scoring: Scoring
    confidence: Confidence
    lists: dict[str, tuple[str, ...]] = {}
    cues: dict[Cue, Phrases]
    needs: dict[Literal[Need, MentoringKind], Terms]
    ingredients: dict[str, Phrases]
    together: tuple[Both, ...]
    dispositions: tuple[DispositionRule, ...]
    eligibility: EligibilityRules
    urgency: Phrases
    not_urgent: Annotated[Phrases, Field(alias="not-urgent")]

    @model_validator(mode="after")
    def _complete(self) -> "Rules":
        if missing := [name for name in (*AREAS, *THEMES, *MENTORING) if name not in self.needs]:
            raise ValueError(f"needs lacks {', '.join(missing)}")
        if lacking := [cue for cue in CUES if cue not in self.cues]:
            raise ValueError(f"cues lacks {', '.join(lacking)}")
        reasons = [rule.reason for rule in self.dispositions]
        if twice := sorted({reason for reason in reasons if reasons.count(reason) > 1}):
            raise ValueError(f"dispositions has {', '.join(twice)} twice")
        for both in self.together:
            for name in both.both:
                if name not in self.ingredients:
                    raise ValueError(f"together names the unknown ingredient {name!r}")
        faults = [fault for entry in self._entries() if (fault := self._fault(entry.phrase))]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _fault(self, phrase: str) -> str | None:
        try:
            parse_phrase(phrase, self.lists)
        except ValueError as error:
            return str(error)
        return None

    def _entries(self) -> list[Entry]:
        plain: dict[str, tuple[str, ...]] = {
            **dict(self.cues.items()),
            **self.ingredients,
            "left": self.eligibility.left,
            "staff-say": self.eligibility.staff_say,
            "doubtful": self.eligibility.doubtful,
            "relevant": self.eligibility.relevant,
            "urgency": self.urgency,
            "not-urgent": self.not_urgent,
        }
        entries = [Entry(name, name, 1.0, phrase) for name, phrases in plain.items() for phrase in phrases]
        entries.extend(
            Entry("needs", need, weight, phrase)
            for need, terms in self.needs.items()
            for weight, phrases in terms.items()
            for phrase in phrases
        )
        entries.extend(
            Entry(f"aside {rule.reason}", rule.reason, weight, phrase)
            for rule in self.dispositions
            for weight, phrases in rule.terms.items()
            for phrase in phrases
        )
        return entries

    @cached_property
    def lexicon(self) -> Lexicon:
        """Every phrase of the rule set, indexed once. Cues, ingredients and facts are fields of their own
        name; the needs share the field `needs`; a disposition rule has the field `aside` and its reason."""
        return Lexicon(self._entries(), self.lists)

    @cached_property
    def by_reason(self) -> dict[str, "DispositionRule"]:
        return {rule.reason: rule for rule in self.dispositions}


class Programme(Part):
    """One programme. Everything that differs from one programme to the next is in here."""

    name: Annotated[str, Field(min_length=1)]
    zone: str
    starts: date
    ends: date
    windows: Annotated[tuple[Window, ...], Field(min_length=1)]
    streams: Streams
    partners: Annotated[tuple[Member, ...], Field(min_length=1)]
    routing: dict[Routable, Annotated[tuple[Slug | tuple[Slug, ...], ...], Field(min_length=1)]]
    offers: OfferTerms
    rules: Rules
    model: Model | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Programme":
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"zone {self.zone!r} is not a known time zone") from error
        for before, after in zip(self.windows, self.windows[1:], strict=False):
            if after.opens < before.closes:
                raise ValueError(f"window {after.name!r} opens before {before.name!r} has closed")
        for window in self.windows:
            if window.opens.date() < self.starts or window.closes.date() > self.ends:
                raise ValueError(f"window {window.name!r} lies outside the programme")
        known = [partner.slug for partner in self.partners]
        if twice := sorted({slug for slug in known if known.count(slug) > 1}):
            raise ValueError(f"partners has {', '.join(twice)} twice")
        for need in self.routing:
            slugs = [slug for group in self.preference(need) for slug in group]
            if unknown := [slug for slug in slugs if slug not in known]:
                raise ValueError(f"routing.{need} names the unknown partner {', '.join(unknown)}")
        if missing := [need for need in ROUTABLE if need not in self.routing]:
            raise ValueError(f"routing lacks {', '.join(missing)}")
        return self

    @cached_property
    def timezone(self) -> ZoneInfo:
        return ZoneInfo(self.zone)

    def local(self, moment: datetime) -> datetime:
        """`moment` as wall time of the programme, with its zone."""
        return moment.astimezone(self.timezone)

    def window_at(self, moment: datetime) -> Window | None:
        """The window open at `moment`, or None."""
        wall = self.local(moment).replace(tzinfo=None)
        return next((window for window in self.windows if window.opens <= wall < window.closes), None)

    def window_after(self, moment: datetime) -> Window | None:
        """The next window to open after `moment`, or None when there is none left."""
        wall = self.local(moment).replace(tzinfo=None)
        return next((window for window in self.windows if window.opens > wall), None)

    def preference(self, need: Routable) -> tuple[tuple[Slug, ...], ...]:
        """The partners that serve a need, best first; those the programme ranks alike stand together."""
        return tuple((rank,) if isinstance(rank, str) else rank for rank in self.routing[need])

    def opening_after(self, moment: datetime) -> datetime | None:
        """The instant at which the next window after `moment` opens, or None when there is none left."""
        following = self.window_after(moment)
        return following.opens.replace(tzinfo=self.timezone).astimezone(UTC) if following else None

    def limit(self, stream: Stream) -> int:
        """What the stream may spend, in pence."""
        return self._money(stream).envelope * 100

    def cost(self, stream: Stream, days: float) -> int:
        """What so many of a partner's working days cost, in pence."""
        return round(self._money(stream).day_rate * 100 * days)

    def _money(self, stream: Stream) -> Advice | Pilot:
        return self.streams.advice if stream == "advice" else self.streams.pilot

    def partner(self, slug: str) -> Member:
        """The partner of that slug. Raises KeyError when the programme names no such partner."""
        for partner in self.partners:
            if partner.slug == slug:
                return partner
        raise KeyError(slug)


def load_programme(path: Path) -> Programme:
    """The programme in the file at `path`, with the model beside it where one is published. Raises
    ProgrammeError with every fault and its line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProgrammeError(f"{path}: cannot be read: {error}") from error
    programme = parse_programme(text, str(path))
    published = path.with_name(MODEL_FILE)
    if not published.exists():
        return programme
    try:
        return programme.model_copy(update={"model": load_model(published)})
    except ModelError as error:
        raise ProgrammeError(str(error)) from error


def parse_programme(text: str, name: str) -> Programme:
    """The programme written in `text`; `name` is what errors call the file."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        twice = _doubled(root) if root else None
        if twice:
            raise ProgrammeError(f"{name}:{twice.start_mark.line + 1}: {twice.value!r} is given twice")
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ProgrammeError(f"{name}{line}: not YAML: {getattr(error, 'problem', None) or error}") from error
    try:
        return Programme.model_validate(data)
    except ValidationError as error:
        faults = [
            f"{name}:{_line(root, fault['loc'])}: {'.'.join(map(str, fault['loc'])) or 'programme'}: "
            f"{fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors(include_url=False)
        ]
        raise ProgrammeError("\n".join(faults)) from error


def _line(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """The line of the deepest part of `location` that the file has."""
    line = node.start_mark.line + 1 if node else 1
    for step in location:
        inner: yaml.Node | None = None
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(step):
                    inner, line = value, key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            inner = node.value[step]
            line = inner.start_mark.line + 1
        if inner is None:
            break
        node = inner
    return line


def _doubled(node: yaml.Node) -> yaml.ScalarNode | None:
    """A key given twice in one mapping; YAML readers keep the last, which hides slips."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    return key
                seen.add(key.value)
            if found := _doubled(value):
                return found
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            if found := _doubled(item):
                return found
    return None
