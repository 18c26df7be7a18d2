import numpy as np
import pytest
import torch

from stepsearch.models.kv_pools import KeyValuePools, KeyValueShape, capacity_class

SHAPE = KeyValueShape(layers=2, heads=1, width=3, dtype=torch.float32, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("length", "capacity"),
    [(1, 64), (64, 64), (65, 128), (256, 256), (257, 320), (513, 640), (1025, 1280), (1793, 2048), (2049, 2560)],
)
def test_capacities_waste_at_most_a_quarter_of_long_contexts(length, capacity):
    assert capacity_class(length) == capacity


def write(pools, slot, values):
    """Append one token per value to a slot, as a reader would."""
    pools.reserve(slot, int(pools.lengths[slot]) + len(values))
    start = int(pools.lengths[slot])
    storage = pools.pools[int(pools.capacities[slot])].storage
    storage[:, :, pools.rows[slot], :, start : start + len(values)] = torch.tensor(values)[:, None]
    pools.lengths[slot] += len(values)


def held(pools, slot):
    storage = pools.pools[int(pools.capacities[slot])].storage
    row = storage[:, :, pools.rows[slot], :, : pools.lengths[slot]]
    assert (row == row[:1, :1, :, :, :1]).all()
    return row[0, 0, 0, :, 0].tolist()


def test_each_slot_keeps_its_own_through_growth_moves_and_departures():
    draw = np.random.default_rng(0)
    pools = KeyValuePools.empty(SHAPE, 20)
    expected: dict[int, list[float]] = {}
    for step in range(400):
        slot = int(draw.integers(20))
        if slot in expected and draw.random() < 0.2:
            pools.free(slot)
            del expected[slot]
        else:
            values = [float(step)] * int(draw.integers(1, 90))
            write(pools, slot, values)
            expected.setdefault(slot, []).extend(values)
    assert {slot: held(pools, slot) for slot in expected} == expected
    assert sum(pool.used for pool in pools.pools.values()) == len(expected)

    for slot in list(expected):
        pools.free(slot)
    assert pools.pools == {}


def test_rows_of_a_pool_are_dense():
    pools = KeyValuePools.empty(SHAPE, 4)
    for slot in range(4):
        write(pools, slot, [float(slot)])

    pools.free(1)

    assert pools.pools[64].used == 3
    assert sorted(pools.pools[64].slots[:3].tolist()) == [0, 2, 3]
    assert sorted(pools.rows[[0, 2, 3]].tolist()) == [0, 1, 2]
