"""The one way to hear and the only place that publishes."""

from shared.messaging.hears import Hears, Subscription
from shared.messaging.publisher import BrokerPublisher
from shared.messaging.topology import Topology

__all__ = ["BrokerPublisher", "Hears", "Subscription", "Topology"]
