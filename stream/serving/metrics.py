"""What readers got, counted in their own process; no user or item id is ever a label."""

from collections import Counter as Tally

from prometheus_client import Counter

from stream.serving.read_protocol import UserVectors

reads_total = Counter(
    "twintide_reads_total",
    "Users read, by what they got: their own vector, or why it is another, or what is the matter with it.",
    ["reason"],
)


def counted(users: list[UserVectors]) -> list[UserVectors]:
    """Count these answers, and return them."""
    for reason, count in Tally(user.reason or "own" for user in users).items():
        reads_total.labels(reason).inc(count)
    return users
