import pytest
import torch

from stepsearch.models.sampling import SamplingRows, sample

PROBABILITIES = torch.tensor([0.1, 0.4, 0.2, 0.3])
LOGITS = PROBABILITIES.log() + 5


def draw(noise, temperature=1.0, top_p=None, top_k=None, logits=LOGITS):
    count = len(noise)
    rows = SamplingRows(
        noise=torch.tensor(noise),
        temperature=torch.full((count,), temperature),
        top_p=None if top_p is None else torch.full((count,), top_p),
        top_k=None if top_k is None else torch.full((count,), top_k),
    )
    ids, logprobs = sample(logits.expand(count, -1), rows)
    return ids.tolist(), logprobs


def test_a_token_is_the_inverse_of_the_cumulative_distribution():
    ids, logprobs = draw([0.0, 0.09, 0.11, 0.49, 0.51, 0.69, 0.71, 0.999999])

    assert ids == [0, 0, 1, 1, 2, 2, 3, 3]
    torch.testing.assert_close(logprobs, PROBABILITIES[ids].log())


def test_the_logprob_is_that_of_the_temperature_scaled_distribution():
    expected = torch.log_softmax(LOGITS / 0.5, -1)

    ids, logprobs = draw([0.2, 0.7], temperature=0.5)

    torch.testing.assert_close(logprobs, expected[ids])


def test_greedy_takes_the_best_and_says_its_unscaled_logprob():
    ids, logprobs = draw([0.0, 0.99], temperature=0.0)

    assert ids == [1, 1]
    torch.testing.assert_close(logprobs, torch.tensor([0.4, 0.4]).log())


def test_greedy_and_sampled_rows_side_by_side():
    rows = SamplingRows(torch.tensor([0.99, 0.99]), torch.tensor([0.0, 1.0]))

    ids, _ = sample(LOGITS.expand(2, -1), rows)

    assert ids.tolist() == [1, 3]


def test_top_k_restricts_the_choice_and_not_the_logprob():
    noise = torch.linspace(0, 0.9999, 200).tolist()

    ids, logprobs = draw(noise, top_k=2)

    assert set(ids) == {1, 3}
    assert ids.count(1) == pytest.approx(200 * 4 / 7, abs=1)
    torch.testing.assert_close(logprobs, PROBABILITIES[ids].log())


@pytest.mark.parametrize(("top_p", "kept"), [(0.39, {1}), (0.41, {1, 3}), (0.71, {1, 2, 3}), (1.0, {0, 1, 2, 3})])
def test_the_nucleus_is_the_fewest_tokens_that_reach_the_mass(top_p, kept):
    noise = torch.linspace(0, 0.9999, 200).tolist()

    assert set(draw(noise, top_p=top_p)[0]) == kept


def test_a_token_without_probability_is_never_drawn():
    logits = torch.tensor([-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf])

    assert set(draw([0.0, 0.5, 1 - 2**-24], logits=logits)[0]) <= {1, 3}


def test_a_large_vocabulary_is_sampled_by_its_probabilities():
    logits = torch.zeros(150_000)
    noise = torch.linspace(0, 0.999, 11).tolist()

    ids, _ = draw(noise, logits=logits)

    assert ids == pytest.approx([value * 150_000 for value in noise], abs=2)
