"""Who may send, from where, how much at once and how often: asked before anything else is done for a client."""

from collections import Counter, OrderedDict
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from aiolimiter import AsyncLimiter

Networks = frozenset[IPv4Network | IPv6Network]

REMEMBERED = 10_000
"""Clients and senders whose rate is known at a time. Who is forgotten begins anew, so memory stays bounded and
only somebody with more addresses than that gains by it."""

LOOPBACK: Networks = frozenset({IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")})


@dataclass(frozen=True, slots=True)
class DoorOptions:
    """`allowed` are the clients let in; none named is everybody. `trusted` are gateways of our own, bound by
    `connections` in all and by nothing else here: they bring everybody's mail. `proxies` begin every connection
    with the PROXY protocol, and only they are believed. Rates are messages a minute, from one client (of IPv6
    its /64) and with one envelope sender; as many may come at once.
    """

    allowed: Networks = frozenset()
    trusted: Networks = LOOPBACK
    proxies: Networks = frozenset()
    connections: int = 200
    client_connections: int = 20
    client_rate: int = 120
    sender_rate: int = 60


class Door:
    """Keeps count. A client is named by its address."""

    def __init__(self, options: DoorOptions) -> None:
        self._options = options
        self._inside: Counter[str] = Counter()
        self._clients = Rates(options.client_rate)
        self._senders = Rates(options.sender_rate)

    def is_proxy(self, peer: str) -> bool:
        return _within(peer, self._options.proxies)

    def enter(self, client: str) -> str | None:
        """None where it may come in, until it leaves; else the reply that refuses it."""
        if self._options.allowed and not _within(client, self._options.allowed):
            return "554 5.7.1 No mail is taken from your address"
        key = _key(client)
        if self._inside[key] >= self._options.client_connections and not self._trusts(client):
            return "421 4.7.0 Too many connections from your address, try again later"
        self._inside[key] += 1
        return None

    def leave(self, client: str) -> None:
        key = _key(client)
        self._inside[key] -= 1
        if not self._inside[key]:
            del self._inside[key]

    async def begin_message(self, client: str, sender: str) -> str | None:
        """None where it may send one more now; else the reply that puts it off."""
        if self._trusts(client):
            return None
        if not await self._clients.take(_key(client)):
            return "450 4.7.1 Too many messages from your address, try again in a minute"
        # The null sender is everybody's.
        if sender and not await self._senders.take(sender.lower()):
            return "450 4.7.1 Too many messages from this sender, try again in a minute"
        return None

    def _trusts(self, client: str) -> bool:
        return _within(client, self._options.trusted)


class Rates:
    """A leaky bucket for each key, of so many keys."""

    def __init__(self, per_minute: int, remembered: int = REMEMBERED) -> None:
        self._per_minute = per_minute
        self._remembered = remembered
        self._buckets: OrderedDict[str, AsyncLimiter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    async def take(self, key: str) -> bool:
        bucket = self._buckets.setdefault(key, AsyncLimiter(self._per_minute, 60))
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._remembered:
            self._buckets.popitem(last=False)
        if not bucket.has_capacity():
            return False
        await bucket.acquire()  # never waits: there is room
        return True


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _within(host: str, networks: Networks) -> bool:
    address = _address(host)
    return address is not None and any(address in network for network in networks)


def _key(host: str) -> str:
    """One customer of a provider has a whole /64 of IPv6 addresses."""
    address = _address(host)
    return str(IPv6Network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address)
