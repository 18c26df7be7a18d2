import numpy as np

from stepsearch.rollout.seeding import episode_seed, token_noise


def test_seeds_are_the_same_on_every_machine():
    assert episode_seed(0) == 16294208416658607535  # splitmix64's first output for state 0
    assert episode_seed(0, 3, 7) == episode_seed(0, 3, 7)


def test_every_part_of_the_path_counts_and_so_does_its_place():
    seeds = {episode_seed(seed, step, index) for seed in range(3) for step in range(20) for index in range(20)}

    assert len(seeds) == 3 * 20 * 20
    assert episode_seed(1, 2, 3) != episode_seed(1, 3, 2)
    assert episode_seed(1) != episode_seed(1, 0)


def test_noise_is_splitmix_at_the_position():
    # episode_seed(s) mixes s + golden, which is what position 0 of seed s draws.
    seeds = np.array([0, 5, 2**64 - 1], dtype=np.uint64)

    noise = token_noise(seeds, np.zeros(3, dtype=np.int64))

    assert noise.tolist() == [(episode_seed(int(seed)) >> 11) * 2.0**-53 for seed in seeds]


def test_noise_does_not_depend_on_its_neighbours():
    seeds = np.array([episode_seed(0, index) for index in range(50)], dtype=np.uint64)
    positions = np.arange(50)

    together = token_noise(seeds, positions)

    alone = [token_noise(seeds[index : index + 1], positions[index : index + 1])[0] for index in range(50)]
    assert together.tolist() == alone


def test_noise_is_uniform():
    positions = np.arange(20_000)
    noise = token_noise(np.full(20_000, episode_seed(4), dtype=np.uint64), positions)

    assert noise.min() >= 0
    assert noise.max() < 1
    counts = np.histogram(noise, bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # chi-squared, 19 degrees, p = .001
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.03
