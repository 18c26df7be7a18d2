from stepsearch.data.seen_hashes import SeenHashes


def test_a_key_is_new_once_through_every_growth():
    seen, keys = SeenHashes(), [str(number).encode() for number in range(20_000)]
    assert all(seen.add(key) for key in keys)
    assert not any(seen.add(key) for key in keys)
    assert len(seen) == 20_000


def test_a_key_costs_at_most_22_bytes_after_growth():
    seen = SeenHashes()
    for number in range(50_000):
        seen.add(str(number).encode())
    slots = seen._slots
    # 50,000 keys fill 65,536 slots to more than three quarters, so there are twice as many.
    assert len(slots) == 131_072
    assert slots.itemsize == 8
