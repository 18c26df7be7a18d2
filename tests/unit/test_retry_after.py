import email.utils
import time

import pytest

from stepsearch.retry_after import retry_after_seconds


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        ("0.25", 0.25),
        ("-1", 0.0),
        ("soon", None),
        ("inf", None),
        ("nan", None),
        ("", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", 0.0),
        ("Fri, 99 Dec 99999 23:59:59 GMT", None),
    ],
)
def test_seconds_or_a_date_that_is_over(value, seconds):
    assert retry_after_seconds({"retry-after": value}) == seconds


def test_a_date_to_come():
    value = email.utils.formatdate(time.time() + 100, usegmt=True)
    assert 98 < retry_after_seconds({"retry-after": value}) <= 100
