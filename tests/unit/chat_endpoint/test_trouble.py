import email.utils
import time

import pytest

from stepsearch.chat_endpoint.trouble import pause_seconds, retry_after_seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        ("0.25", 0.25),
        ("-1", 0.0),
        ("soon", None),
        ("", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0),
        ("Fri, 99 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_retry_after(value, seconds):
    assert retry_after_seconds({"retry-after": value}) == seconds


def test_retry_after_as_a_date():
    value = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert 98 < retry_after_seconds({"retry-after": value}) <= 100


def test_pauses_double_with_jitter_up_to_a_minute():
    for attempt, middle in [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (50, 60)]:
        pauses = [pause_seconds(attempt, 1.0, TimeoutError()) for _ in range(50)]
        assert middle / 2 <= min(pauses) < max(pauses) <= middle * 1.5
