"""Random models that close tags, which random weights by themselves all but never do."""

import torch

from stepsearch.protocol import STOP_TAGS


def stop_bias(tokenizer, vocabulary):
    """Return what raises the scores of all that spells a stop tag, most where it takes many tokens, and of the end."""
    length = len(tokenizer.encode_markup(STOP_TAGS[0]))
    bias = torch.zeros(vocabulary)
    for tag in STOP_TAGS:
        bias[tokenizer.encode_markup(tag)] = 3.0 if length == 1 else 8.0
    bias[list(tokenizer.eos_ids)] = 3.0 if length == 1 else 7.0
    return bias


def eager_to_stop(causal_lm, tokenizer):
    """Give the output head that bias."""
    head = causal_lm.get_output_embeddings()
    head.bias = torch.nn.Parameter(stop_bias(tokenizer, head.weight.shape[0]))


@torch.no_grad()
def eager_to_stop_without_bias(causal_lm, tokenizer):
    """Do the same to a model whose head has no bias: one channel, which the head alone reads, is nearly constant."""
    causal_lm.model.embed_tokens.weight[:, 0] = large = 12.0
    for layer in causal_lm.model.layers:
        attention, mlp = layer.self_attn, layer.mlp
        for reader in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
            reader.weight[:, 0] = 0.0
        for writer in (attention.o_proj, mlp.down_proj):
            writer.weight[0] = 0.0
    head = causal_lm.get_output_embeddings()
    constant = causal_lm.model(torch.arange(3, 40)[None]).last_hidden_state[..., 0].mean()
    # What all tokens have in common changes nothing; a tied embedding stays nearly constant.
    head.weight[:, 0] = large + stop_bias(tokenizer, head.weight.shape[0]) / constant
