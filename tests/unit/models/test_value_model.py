import pytest
import torch
from transformers import Qwen2ForCausalLM

from stepsearch.models.value_model import ValueModel, new_value_head


@pytest.fixture
def causal_lm(random_policy) -> Qwen2ForCausalLM:
    return random_policy(30).eval()


def with_a_live_head(causal_lm: Qwen2ForCausalLM) -> ValueModel:
    critic = ValueModel.from_causal_lm(causal_lm, seed=1)
    torch.nn.init.normal_(critic.head.output.weight)
    return critic


INPUT_IDS = torch.arange(24).view(2, 12) % 30
MASK = torch.tensor([[0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0], [0] * 12])


def test_a_fresh_critic_values_everything_at_zero(causal_lm: Qwen2ForCausalLM) -> None:
    assert not ValueModel.from_causal_lm(causal_lm, seed=0)(INPUT_IDS, MASK).any()


def test_the_value_before_a_token_is_read_one_position_earlier(causal_lm: Qwen2ForCausalLM) -> None:
    critic = with_a_live_head(causal_lm)
    hidden = causal_lm.model(INPUT_IDS).last_hidden_state
    expected = torch.zeros(2, 12)
    expected[0, [2, 3, 6]] = critic.head(hidden[0, [1, 2, 5]])
    torch.testing.assert_close(critic(INPUT_IDS, MASK), expected)


def test_the_value_knows_nothing_of_the_token_it_stands_before(causal_lm: Qwen2ForCausalLM) -> None:
    critic = with_a_live_head(causal_lm)
    changed = INPUT_IDS.clone()
    changed[0, 6] = 29
    torch.testing.assert_close(critic(changed, MASK), critic(INPUT_IDS, MASK))
    assert not torch.allclose(
        critic(changed, torch.ones_like(MASK))[0, 7], critic(INPUT_IDS, torch.ones_like(MASK))[0, 7]
    )


def test_the_critic_is_a_copy(causal_lm: Qwen2ForCausalLM) -> None:
    causal_lm.requires_grad_(False)
    critic = ValueModel.from_causal_lm(causal_lm, seed=0)
    assert all(parameter.requires_grad for parameter in critic.parameters())
    ours = {parameter.data_ptr() for parameter in critic.parameters()}
    assert ours.isdisjoint(parameter.data_ptr() for parameter in causal_lm.parameters())


def test_the_head_is_a_function_of_the_seed(causal_lm: Qwen2ForCausalLM) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    heads = [new_value_head(causal_lm, seed) for seed in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(heads[0].dense.weight, heads[1].dense.weight)
    assert not torch.equal(heads[0].dense.weight, heads[2].dense.weight)
