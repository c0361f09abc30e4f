"""What the kit measures, beside what FastStream's own middleware measures of every message."""

from prometheus_client import Counter, Gauge, Histogram

QUICK = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

decided = Counter("messages_decided", "Messages that changed an aggregate.", ["aggregate", "outcome"])
duplicates = Counter("messages_already_taken", "Messages an aggregate had taken before.", ["aggregate"])
retried = Counter("messages_retried", "Messages sent to a retry tier.", ["queue", "tier"])
failed = Counter("messages_failed", "Messages dead-lettered.", ["queue", "error"])
group_size = Histogram(
    "commit_group_size",
    "Documents in one bulk write.",
    ["aggregate"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256),
)
commit_seconds = Histogram("commit_seconds", "Time of one bulk write.", ["aggregate"], buckets=QUICK)
conflicts = Counter("commit_conflicts", "Decisions made again after a stale version.", ["aggregate"])
publish_seconds = Histogram("publish_seconds", "Time from publish to the broker's confirm.", buckets=QUICK)
publish_failures = Counter("publish_failures", "Publishes left to the relay.", ["exchange"])
relayed = Counter("outbox_relayed", "Events the relay published after a crash or an outage.", ["aggregate"])
outbox_lag_seconds = Gauge("outbox_lag_seconds", "Age of the oldest event not yet published.", ["aggregate"])
enquiry_age_seconds = Histogram(
    "enquiry_age_seconds",
    "Time since the enquiry was accepted, when a stage has finished with it.",
    ["stage"],
    buckets=(0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 5, 15, 60, 300, 3600, 86400),
)
