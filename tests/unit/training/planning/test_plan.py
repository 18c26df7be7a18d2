"""Whole plans, of a model small enough to add up by hand."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from stepsearch.config import Config, load_config
from stepsearch.errors import ConfigError
from stepsearch.models.model_shape import ModelShape
from stepsearch.training.planning.devices import DEVICES, Device
from stepsearch.training.planning.fitting import memory_refusal, savings
from stepsearch.training.planning.measurement import trial_notes
from stepsearch.training.planning.memory import HELD, OPTIMISER_STEP, ROLLOUT, UPDATE
from stepsearch.training.planning.plan import RunPlan, plan_run
from stepsearch.training.planning.quantities import Assumptions, EpisodeTokens

MEBIBYTE = 2**20
CHECKPOINTING = "training.gradient_checkpointing=true"
SHAPE = ModelShape(
    kind="qwen2",
    layers=2,
    hidden=64,
    query_width=64,
    key_value_width=32,
    intermediate=96,
    normed_queries=False,
    vocabulary=1000,
    positions=4096,
    dtype=torch.bfloat16,
    parameters=100_000,
    trunk_parameters=90_000,
    read_parameters=26_000,
    value_head_parameters=5_000,
    source="test",
)
CORE = Assumptions(Device("cpu", None, 1e9, 1e9, 1e9), prompt_tokens=100, searches=2, turn_tokens=50, efficiency=0.5)
GPU = replace(CORE, device=Device("a GPU", 10**12, 1e9, 1e9, 1e9))
SETTINGS = [
    "model.max_length=1024",
    "rollout.max_turn_tokens=100",
    "rollout.max_observation_tokens=200",
    "rollout.max_passage_tokens=50",
    "reward.max_search_steps=3",
    "training.batch_size=16",
    "training.microbatch_tokens=2048",
    "rollout.slots=8",
]


def config_of(*overrides: str) -> Config:
    return load_config(None, [*SETTINGS, *overrides])


def plan_of(*overrides: str, assumed: Assumptions = CORE, adapter: int = 0, questions: int | None = None) -> RunPlan:
    return plan_run(config_of(*overrides), SHAPE, assumed, adapter=adapter, questions=questions)


def test_tokens_of_an_episode() -> None:
    plan = plan_of()
    # At most 3 searches: 4 turns of 100 tokens, 3 results of 200, and the prompt; they do not fit 1,024.
    assert plan.longest.total == 1024
    assert plan.longest.prompt == 100
    # As assumed: 2 searches of three documents with 50 tokens each, 3 turns of 50.
    assert plan.expected == EpisodeTokens(prompt=100, sampled=150, observed=300)
    assert plan.notes == [
        "an episode that uses its budgets in full ends with context_full after 2 of 3 searches: they add up to 1100 "
        "tokens, and model.max_length is 1024"
    ]
    assert plan_of("model.max_length=1100").notes == []


def test_memory_by_part() -> None:
    memory = plan_of().memory
    assert memory[HELD] == {
        "policy weights": 400_000,
        "critic weights": 4 * 95_000,
        "reference weights": 400_000,
        "optimiser states": 2 * 4 * (100_000 + 95_000),
    }
    # 8 slots of 1,024 tokens, in 2 layers a key and a value of 32 numbers with 4 bytes.
    assert memory[ROLLOUT]["keys and values"] == 8 * 1024 * 2 * 2 * 32 * 4
    # The policy's gradients are gone when the critic learns.
    assert memory[UPDATE]["gradients"] == 400_000
    assert memory[UPDATE]["activations"] == 2048 * 2 * 4 * (6 * 64 + 2 * 64 + 2 * 32 + 4 * 96)


def test_what_has_no_copy_takes_no_memory() -> None:
    assert "reference weights" not in plan_of("training.kl_mode=none").memory[HELD]
    assert plan_of("training.critic=shared").memory[HELD]["critic weights"] == 4 * 5_000
    # A shared trunk has the gradients of both.
    assert plan_of("training.critic=shared").memory[UPDATE]["gradients"] == 4 * 105_000
    group = plan_of("training.critic=group", "training.rollouts_per_question=2", "training.kl_mode=loss")
    assert group.parameters.critic == group.parameters.critic_learns == 0
    assert group.episodes == 32


def test_what_is_offloaded_is_fetched_for_a_step_alone() -> None:
    accelerator = replace(CORE, device=replace(CORE.device, name="h100"))
    memory = plan_of("training.offload=all", assumed=accelerator).memory
    assert {"optimiser states", "reference weights"}.isdisjoint(memory[HELD])
    # The larger of both, one after the other: the policy's.
    assert memory[OPTIMISER_STEP]["fetched optimiser states"] == 2 * 4 * 100_000
    assert "reference weights" in plan_of("training.offload=optimizer", assumed=accelerator).memory[HELD]
    # On a CPU there is nowhere else to be.
    assert plan_of("training.offload=all").memory == plan_of().memory


def test_adapters_on_a_16_bit_trunk() -> None:
    plan = plan_of("lora.rank=4", "model.dtype=bfloat16", adapter=1_000)
    assert plan.memory[HELD] == {
        "policy weights": 2 * 100_000 + 4 * 1_000,
        "critic weights": 4 * (1_000 + 5_000),
        "optimiser states": 2 * 4 * (1_000 + 6_000),
    }
    assert plan.memory[UPDATE]["gradients"] == 4 * 6_000
    assert plan.disk.checkpoint == 7_000 * 4 * 3


def test_a_gpu_samples_mixed_precision_from_a_copy() -> None:
    plan = plan_of("training.mixed_precision=bf16", assumed=GPU)
    assert plan.memory[HELD]["copy to sample from"] == 2 * 100_000
    # Keys and values have the copy's 2 bytes, and no weight is cast to sample.
    assert set(plan.memory[ROLLOUT]) == {"keys and values", "logits"}
    assert plan.memory[ROLLOUT]["keys and values"] == 8 * 1024 * 2 * 2 * 32 * 2
    assert "copy to sample from" not in plan_of(assumed=GPU).memory[HELD]


def test_devices_share_weights_and_episodes() -> None:
    alone, shared = plan_of(), plan_of("training.parallel=fsdp", assumed=replace(CORE, devices=4))
    assert shared.memory[HELD]["optimiser states"] * 4 == alone.memory[HELD]["optimiser states"]
    # 4 episodes on each; to sample, the other three quarters of the policy are fetched.
    assert shared.memory[ROLLOUT]["keys and values"] * 2 == alone.memory[ROLLOUT]["keys and values"]
    assert shared.memory[ROLLOUT]["policy weights of other devices"] == 300_000
    assert shared.seconds.reading == pytest.approx(alone.seconds.reading / 4)
    # With whole copies on each, only the work is shared.
    copies = plan_of("training.parallel=ddp", assumed=replace(CORE, devices=4))
    assert copies.memory[HELD] == alone.memory[HELD]
    assert "policy weights of other devices" not in copies.memory[ROLLOUT]
    assert copies.seconds.reading == shared.seconds.reading


def test_time_by_hand() -> None:
    plan = plan_of("training.update_epochs=2")
    body = 550 * (2 * 26_000 + 2 * 2 * 64 * 550)
    head = 2 * 150 * 64 * 1000
    # 16 episodes at half of 1e9 operations a second; the reference reads with its head, the critic without.
    assert plan.seconds.reading == pytest.approx(16 * (2 * body + head) / 5e8)
    moved = 28 * (100_000 + 95_000) / 5e8
    assert plan.seconds.update == pytest.approx(2 * (16 * 3 * (2 * body + head) / 5e8 + moved))
    assert plan.seconds.step == pytest.approx(
        plan.seconds.rollout + plan.seconds.reading + plan.seconds.update + plan.seconds.evaluation
    )


def test_steps_and_hours() -> None:
    assert plan_of().steps is None
    assert plan_of().hours is None
    # 10 epochs of 40 questions, 16 a step.
    assert plan_of(questions=40).steps == 25
    capped = plan_of("training.max_steps=7")
    assert capped.hours == pytest.approx(7 * capped.seconds.step / 3600)


def test_disk() -> None:
    disk = plan_of("logging.keep_checkpoints=3").disk
    # Weights and two states of policy and critic; one checkpoint more while it is written.
    assert disk.checkpoint == 195_000 * 4 * 3
    assert disk.most == 4 * disk.checkpoint + 400_000 + 2 * 400_000


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.max_length=400"], r"model\.max_length=400 leaves 84 tokens for a prompt of 100: raise it by 16"),
        (["model.max_length=8192"], r"model\.max_length=8192 is more than the model's 4096 positions"),
        (["model.dtype=bfloat16"], r"model\.dtype=bfloat16: .* set model\.dtype=float32"),
        (["model.dtype=auto"], r"model\.dtype=auto: .* lora\.rank=32"),
        (["training.minibatch_size=17"], r"training\.minibatch_size=17 is more than the 16 episodes of a step"),
        (["rollout.top_p=0.9"], r"rollout\.top_p=0\.9: training samples from the distribution that it trains"),
    ],
)
def test_impossible_combinations_name_the_key(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(*overrides)


@pytest.mark.parametrize("engine", ["vllm", "vllm_server"])
def test_vllm_is_for_one_device(engine: str) -> None:
    with pytest.raises(ConfigError, match=rf"rollout\.engine={engine} is for training in one process, and there are 2"):
        plan_of(f"rollout.engine={engine}", assumed=replace(CORE, devices=2))


def test_workers_are_for_one_cpu_as_training_says() -> None:
    two = replace(CORE, devices=2)
    with pytest.raises(ConfigError, match=r"training\.workers=2 with 2 processes: .* set training\.workers=1"):
        plan_of("training.workers=2", assumed=two)
    # Where training leaves them aside, so does a plan.
    plan_of("training.workers=2", "training.mixed_precision=bf16", assumed=two)
    plan_of("training.workers=2", assumed=replace(GPU, devices=2))


def test_vllm_takes_its_share_of_a_gpu_and_gives_it_back_to_learn() -> None:
    share = int(0.25 * 10**12)
    plan = plan_of("rollout.engine=vllm", "vllm.gpu_memory_utilization=0.25", assumed=GPU)
    assert plan.memory[ROLLOUT] == {"vLLM's share": share}
    assert plan.phase_bytes(ROLLOUT) == sum(plan.memory[HELD].values()) + share
    awake = plan_of("rollout.engine=vllm", "vllm.gpu_memory_utilization=0.25", "vllm.sleep=false", assumed=GPU)
    assert awake.memory[HELD] == {**plan.memory[HELD], "vLLM's share": share}
    assert ROLLOUT not in awake.memory


def test_vllm_with_a_cache_of_a_set_size_takes_weights_and_cache() -> None:
    settings = ["rollout.engine=vllm", "training.mixed_precision=bf16"]
    plan = plan_of(*settings, "vllm.cache_gib=3", assumed=GPU)
    assert plan.memory[ROLLOUT] == {"vLLM's weights": 2 * 100_000, "vLLM's keys and values": 3 * 2**30}
    # The copy is our own engine's.
    assert "copy to sample from" not in plan.memory[HELD]
    # A CPU has no sleeping, and a cache of 1 GiB.
    held = plan_of(*settings).memory[HELD]
    assert (held["vLLM's weights"], held["vLLM's keys and values"]) == (200_000, 2**30)


def test_a_server_takes_nothing_here_and_that_is_said() -> None:
    plan = plan_of("rollout.engine=vllm_server", "training.mixed_precision=bf16", assumed=GPU)
    assert ROLLOUT not in plan.memory
    assert "copy to sample from" not in plan.memory[HELD]
    assert "what the server takes is not counted" in plan.notes[-1]


def test_a_trial_that_samples_with_another_engine_says_so() -> None:
    assert trial_notes(config_of()) == []
    assert "says nothing of vLLM's speed" in trial_notes(config_of("rollout.engine=vllm"))[0]


def test_a_share_that_vllms_weights_fill_is_refused() -> None:
    small = replace(GPU, device=replace(GPU.device, memory_bytes=700_000))
    with pytest.raises(
        ConfigError, match=r"vllm\.gpu_memory_utilization=0\.5 is 0\.3 MiB of a GPU, and vLLM's weights"
    ):
        plan_of("rollout.engine=vllm", assumed=small)


def test_a_minibatch_has_an_episode_for_every_device() -> None:
    with pytest.raises(ConfigError, match=r"training\.minibatch_size=4 leaves some of 8 devices without an episode"):
        plan_of("training.minibatch_size=4", assumed=replace(CORE, devices=8))


def test_uneven_minibatches_are_a_note() -> None:
    assert "training.minibatch_size=5 does not divide the 16 episodes" in plan_of("training.minibatch_size=5").notes[-1]


def refusal(room: int, *overrides: str, device: Device = CORE.device) -> str | None:
    assumed = replace(CORE, device=replace(device, memory_bytes=room))
    return memory_refusal(
        plan_of(*overrides, assumed=assumed),
        config_of(*overrides),
        assumed,
        lambda more, devices: plan_of(
            *overrides,
            *more,
            assumed=replace(assumed, devices=devices),
            adapter=1_000 if any(override.startswith("lora.rank") for override in more) else 0,
        ),
    )


def test_a_run_that_does_not_fit_is_told_what_would() -> None:
    peak = plan_of().peak_bytes
    assert refusal(peak) is None
    text = refusal(peak - 1)
    assert text is not None
    assert "are needed during the update, and cpu has" in text
    # All of these save something, where the update needs the most; fewer slots do not.
    assert "it fits with training.microbatch_tokens=1920 (" in text
    assert "training.gradient_checkpointing=true (" in text
    assert "rollout.slots" not in text


def test_no_more_is_offered_than_is_needed() -> None:
    """What fits by itself is in no other mend, and of two values of one key the nearer one is offered."""
    cache = ["rollout.slots=64", "training.batch_size=64", "training.gradient_checkpointing=true"]
    for room, overrides in ((plan_of().peak_bytes - 1, []), (plan_of(*cache).peak_bytes - MEBIBYTE, cache)):
        text = refusal(room, *overrides)
        assert text is not None
        mends = [set(words.split()) for words in re.findall(r"with ((?:[a-z_.]+=\S+ )+)\(", text)]
        assert len(mends) > 1
        assert not any(one < other for one in mends for other in mends)
        assert text.count("rollout.slots=") <= 1
    # Together they save what neither does alone.
    alone = min(plan_of(mend).peak_bytes for mend in ("training.microbatch_tokens=1024", CHECKPOINTING))
    assert f"with {CHECKPOINTING} training.microbatch_tokens=" in str(refusal(alone - 1))


@pytest.mark.parametrize(
    ("key", "values", "overrides"),
    [
        ("rollout.slots", range(52, 64, 4), ["rollout.slots=64", "training.batch_size=64", CHECKPOINTING]),
        ("training.microbatch_tokens", range(1024, 4096, 128), ["training.microbatch_tokens=4096"]),
    ],
)
def test_the_least_change_that_fits_is_offered(key: str, values: range, overrides: list[str]) -> None:
    for least, too_much in pairwise(values):
        room = plan_of(*overrides, f"{key}={least}").peak_bytes
        assert room < plan_of(*overrides, f"{key}={too_much}").peak_bytes
        assert f"with {key}={least} (" in str(refusal(room, *overrides))


def test_as_many_devices_are_offered_as_are_needed() -> None:
    for devices in (2, 3, 6, 11):
        room = plan_of("training.parallel=fsdp", assumed=replace(GPU, devices=devices)).peak_bytes
        assert str(refusal(room, device=GPU.device)).endswith(f"training.parallel=fsdp --devices {devices}")
    # A minibatch of 5 episodes has none for a sixth device.
    room = plan_of("training.parallel=fsdp", assumed=replace(GPU, devices=5)).peak_bytes
    minibatch = "training.minibatch_size=5"
    assert str(refusal(room, minibatch, device=GPU.device)).endswith("--devices 5")
    assert "--devices" not in str(refusal(room - 1, minibatch, device=GPU.device))


def test_adapters_are_offered_with_what_they_need_alone() -> None:
    adapters = ("lora.rank=32", "model.dtype=bfloat16")
    assert [adapters] in savings(config_of())
    assert [adapters] in savings(config_of("training.offload=optimizer"))
    assert [(*adapters, "training.offload=none")] in savings(config_of("training.offload=all"))
    assert [(*adapters, "training.parallel=ddp")] in savings(config_of("training.parallel=fsdp"))


def test_settings_for_one_device_are_changed_where_several_are_offered() -> None:
    """A mend that cannot be combined with the other settings is none, and no error."""
    room = plan_of("training.parallel=fsdp", assumed=replace(GPU, devices=4)).peak_bytes
    text = refusal(room, "rollout.engine=vllm", "vllm.cache_gib=1", "training.offload=optimizer", device=GPU.device)
    assert "with training.parallel=fsdp training.offload=none rollout.engine=in_process --devices 4" in str(text)
    assert "--devices" not in str(refusal(room, "training.minibatch_size=1", device=GPU.device))
    # Processes on a CPU have one memory.
    room = plan_of("training.parallel=fsdp", assumed=replace(CORE, devices=4)).peak_bytes
    assert "--devices" not in str(refusal(room))


def test_vllm_that_leaves_too_little_is_given_less() -> None:
    settings = ["rollout.engine=vllm", "vllm.gpu_memory_utilization=0.8"]
    # What is always there fills the fifth that vLLM leaves, and there is none for the update.
    room = 5 * sum(plan_of(*settings, assumed=GPU).memory[HELD].values()) + 10
    text = str(refusal(room, *settings, "vllm.sleep=false", device=GPU.device))
    assert re.findall(r"with (\S+) \(", text)[:2] == ["vllm.sleep=true", "vllm.gpu_memory_utilization=0.75"]
    assert "rollout.engine=in_process (" in text


def test_where_the_cache_is_the_largest_fewer_slots_are_the_first_mend() -> None:
    overrides = ["rollout.slots=64", "training.batch_size=64", "training.gradient_checkpointing=true"]
    plan = plan_of(*overrides)
    assert plan.peak_phase == ROLLOUT
    text = refusal(plan.peak_bytes - MEBIBYTE, *overrides)
    assert text is not None
    assert "it fits with rollout.slots=60 (" in text


def test_nothing_helps() -> None:
    text = refusal(1000)
    assert text is not None
    assert text.endswith("choose a smaller model.name or a larger --device")


def test_data_sheets() -> None:
    h100 = DEVICES["h100"]
    assert (h100.bfloat16_flops, h100.bandwidth) == (989e12, 3350e9)
