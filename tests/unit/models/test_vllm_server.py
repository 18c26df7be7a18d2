"""What is said when a vLLM server is not there, or is none."""

import json

import pytest
import torch

from stepsearch.config import VLLMSettings
from stepsearch.errors import ConfigError, ModelError
from stepsearch.models.vllm_server import VLLMServer
from stepsearch.rollout.generation import Sampling

MODELS = {"data": [{"id": "tiny", "max_model_len": 512}]}
COMPLETION = {"choices": [{"token_ids": [7, 8], "logprobs": {"token_logprobs": [-0.5, -1.5]}}]}


def answers(paths):
    """Return what answers by path, with a status and a value."""

    def answer(asked):
        status, value = paths.get(asked.path, (404, {"detail": "Not Found"}))
        return status, {"content-type": "application/json"}, json.dumps(value).encode()

    return answer


def test_ids_go_in_and_come_out(loopback):
    http = loopback(answers({"/v1/models": (200, MODELS), "/v1/completions": (200, COMPLETION)}))
    server = VLLMServer(VLLMSettings(url=http.url), 2)

    completion = server.complete([3, 4], Sampling(5, seed=(1 << 63) + 9, temperature=0.5), [2])

    assert (server.name, server.max_length) == ("tiny", 512)
    assert (completion.token_ids, completion.logprobs) == ([7, 8], [-0.5, -1.5])
    asked = json.loads(http.asked[-1].body)
    assert (asked["prompt"], asked["max_tokens"], asked["temperature"], asked["seed"]) == ([3, 4], 5, 0.5, 9)
    assert (asked["stop"], asked["stop_token_ids"]) == (["</search>", "</answer>"], [2])


def test_a_token_from_the_environment_is_sent(loopback, monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "abc")
    http = loopback(answers({"/v1/models": (200, MODELS)}))
    VLLMServer(VLLMSettings(url=http.url, token_variable="MY_TOKEN"), 1)
    assert {name.lower(): value for name, value in http.asked[-1].headers.items()}["authorization"] == "Bearer abc"


def test_a_server_that_takes_no_weights_is_named(loopback):
    http = loopback(answers({"/v1/models": (200, MODELS)}))
    with pytest.raises(ConfigError, match="takes no weights: start it with VLLM_SERVER_DEV_MODE=1"):
        VLLMServer(VLLMSettings(url=http.url), 1).load({"a": torch.zeros(2)})


def test_weights_are_in_a_file_while_the_server_reads_them(loopback, tmp_path):
    found = []

    def answer(asked):
        if asked.path == "/collective_rpc":
            body = json.loads(asked.body)
            assert body["method"] == "reload_weights"
            found.extend(path.name for path in tmp_path.glob("*/*"))
            assert body["kwargs"]["weights_path"].startswith(str(tmp_path))
        return answers({"/v1/models": (200, MODELS), "/collective_rpc": (200, {}), "/reset_prefix_cache": (200, {})})(
            asked
        )

    http = loopback(answer)
    tied = torch.zeros(2)
    VLLMServer(VLLMSettings(url=http.url, exchange_folder=str(tmp_path)), 1).load({"a": tied, "b": tied})

    assert found == ["model.safetensors"]
    assert [asked.path for asked in http.asked] == ["/v1/models", "/collective_rpc", "/reset_prefix_cache"]
    assert list(tmp_path.iterdir()) == []


def test_no_server_and_no_vllm_server_are_told_apart(loopback):
    with pytest.raises(ModelError, match=r"the vLLM server at http://127.0.0.1:9 does not answer \(ConnectError\)"):
        VLLMServer(VLLMSettings(url="http://127.0.0.1:9"), 1)
    with pytest.raises(ModelError, match=r"/v1/models is not there: vllm\.url has to be the address"):
        VLLMServer(VLLMSettings(url=loopback(answers({})).url), 1)
    refusing = loopback(answers({"/v1/models": (200, MODELS), "/v1/completions": (400, {"error": "too long"})}))
    with pytest.raises(ModelError, match=r'refuses /v1/completions \(400\): {"error": "too long"}'):
        VLLMServer(VLLMSettings(url=refusing.url), 1).complete([3], Sampling(5, seed=0), [2])
