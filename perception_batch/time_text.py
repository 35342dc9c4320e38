"""Times as users write them: seconds from the first camera stamp, ISO-8601 UTC, or integer nanoseconds."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import datetime, timezone

from perception_batch.errors import ConfigError, printable


def parse_time(text: str, first_stamp_ns: int, option: str) -> int:
    """A time as users write it, as ns: seconds from the first stamp, ISO-8601 UTC, or ns as an integer.

    Args:
        text: what was written.
        first_stamp_ns: where seconds count from.
        option: what the text stands in, for the message.

    Raises:
        ConfigError: it is none of these.
    """
    word = text.strip()
    digits = word.lstrip("+-")
    if digits.isdigit() and len(digits) >= 13:  # as seconds that would be 300,000 years
        with suppress(ValueError):  # some digits of Unicode, or two signs, are no number
            return int(word)
    with suppress(ValueError):
        seconds = float(word)
        if math.isfinite(seconds):
            return first_stamp_ns + round(seconds * 1e9)
    with suppress(ValueError):
        at = datetime.fromisoformat(word.replace("Z", "+00:00"))
        at = at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)
        whole = at - datetime(1970, 1, 1, tzinfo=timezone.utc)
        return (whole.days * 86_400 + whole.seconds) * 1_000_000_000 + whole.microseconds * 1000
    raise ConfigError(
        f"{option} {printable(text)!r}: expected seconds from the first camera stamp, an ISO-8601 UTC time, "
        "or integer nanoseconds"
    )
