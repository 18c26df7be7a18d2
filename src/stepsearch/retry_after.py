"""How long an HTTP server asks to be left alone."""

import email.utils
import math
import time
from collections.abc import Mapping
from contextlib import suppress


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return what `Retry-After` asks for, in seconds or as a date; None without one that can be waited for."""
    value = headers.get("retry-after", "")
    with suppress(ValueError):
        seconds = float(value)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    date = email.utils.parsedate_tz(value)
    if date is None:
        return None
    # A day that no calendar has is no wish.
    with suppress(ValueError, OverflowError):
        return max(0.0, email.utils.mktime_tz(date) - time.time())
    return None
