import pytest

from stepsearch.errors import SearchUnavailableError
from stepsearch.search.circuit_breaker import CircuitBreaker
from stepsearch.search.rate_limit import RateLimit


class Clock:
    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def circuit(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker("the server", failures=2, pause_seconds=10, clock=clock)


def refused(circuit: CircuitBreaker) -> bool:
    try:
        circuit.admit()
    except SearchUnavailableError:
        return True
    return False


def test_it_opens_after_failures_in_a_row_only(circuit: CircuitBreaker) -> None:
    circuit.failed()
    circuit.succeeded()
    circuit.failed()
    assert not refused(circuit)
    circuit.failed()
    with pytest.raises(
        SearchUnavailableError, match=r"the server failed before, and is left alone for another 10\.0 s"
    ):
        circuit.admit()


def test_half_open_lets_one_through_and_its_success_closes(circuit: CircuitBreaker, clock: Clock) -> None:
    circuit.failed()
    circuit.failed()
    clock.now += 10
    assert [refused(circuit), refused(circuit)] == [False, True]
    circuit.succeeded()
    assert [refused(circuit), refused(circuit)] == [False, False]


def test_half_open_and_a_failure_begin_the_pause_anew(circuit: CircuitBreaker, clock: Clock) -> None:
    circuit.failed()
    circuit.failed()
    clock.now += 11
    circuit.admit()
    circuit.failed()
    clock.now += 9
    assert refused(circuit)
    clock.now += 1
    assert not refused(circuit)


def test_a_probe_that_never_reports_does_not_keep_it_shut(circuit: CircuitBreaker, clock: Clock) -> None:
    circuit.open_for(5)
    clock.now += 5
    circuit.admit()
    clock.now += 10
    assert not refused(circuit)


def test_the_longer_of_two_pauses_counts(circuit: CircuitBreaker, clock: Clock) -> None:
    circuit.open_for(60)
    circuit.open_for(3)
    clock.now += 59
    assert refused(circuit)


def test_requests_are_spaced_evenly(clock: Clock) -> None:
    limit = RateLimit(4, clock, clock.sleep)
    for _ in range(3):
        limit.wait()
    clock.now += 7
    limit.wait()
    assert clock.slept == [0.25, 0.25]
