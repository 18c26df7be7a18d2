from stepsearch.chat_endpoint.trouble import pause_seconds


def test_pauses_double_with_jitter_up_to_a_minute():
    for attempt, middle in [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (50, 60)]:
        pauses = [pause_seconds(attempt, 1.0, TimeoutError()) for _ in range(50)]
        assert middle / 2 <= min(pauses) < max(pauses) <= middle * 1.5
