"""Settings: defaults, files, overrides, and one clear line for each mistake."""

from pathlib import Path

import pytest
import yaml

from stepsearch.config import (
    Config,
    SearchSettings,
    asked_keys,
    known_keys,
    load_config,
    overridden_keys,
    refuse_impossible,
)
from stepsearch.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "config"


def flatten(tree: dict, prefix: str = "") -> dict:
    flat = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def test_promised_values_are_the_defaults() -> None:
    config = load_config()
    assert (config.model.name, config.model.max_length) == ("Qwen/Qwen2.5-3B", 2048)
    training = config.training
    assert (training.batch_size, training.learning_rate, training.num_epochs, training.clip_range) == (
        32,
        7e-7,
        10,
        0.2,
    )
    reward = config.reward
    assert (reward.gamma_key, reward.redundancy_threshold, reward.max_search_steps) == (0.1, 0.8, 5)
    assert (config.search.engine_type, config.search.top_k) == ("wiki", 3)


def test_config_yaml_states_every_default() -> None:
    written = flatten(yaml.safe_load((CONFIGS / "config.yaml").read_text(encoding="utf-8")))
    defaults = flatten(Config().model_dump())
    assert sorted(written) == sorted(known_keys())
    assert load_config(CONFIGS / "config.yaml") == Config()
    for key, value in written.items():
        expected = list(defaults[key]) if isinstance(defaults[key], tuple) else defaults[key]
        assert (float(value) if isinstance(expected, float) else value) == expected, key


def test_config_yaml_documents_every_key() -> None:
    for number, line in enumerate((CONFIGS / "config.yaml").read_text(encoding="utf-8").splitlines(), start=1):
        is_value = line and not line.startswith("#") and not line.endswith(":")
        assert not is_value or "  # " in line, f"line {number} has no comment: {line}"


@pytest.mark.parametrize("name", ["tiny", "paper-3b", "paper-7b", "official-3b", "lora-3b-1gpu"])
def test_shipped_files_load(name: str) -> None:
    config = load_config(CONFIGS / f"{name}.yaml")
    assert config.reward.recipe == ("official" if name == "official-3b" else "paper")


def test_a_string_like_7e_7_becomes_a_number(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("training: {learning_rate: 7e-7}", encoding="utf-8")
    assert load_config(file).training.learning_rate == 7e-7
    assert load_config(None, ["training.learning_rate=1e-5"]).training.learning_rate == 1e-5


def test_a_bare_no_means_no_mixed_precision() -> None:
    assert load_config(None, ["training.mixed_precision=no"]).training.mixed_precision == "no"


def test_overrides_win_over_the_file_and_the_file_over_the_base(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("search:\n  top_k: 4\nmodel:\n", encoding="utf-8")
    base = {"search": {"top_k": 2, "engine_type": "bm25"}, "rollout": {"slots": 7}}
    config = load_config(file, ["rollout.slots=9"], base)
    assert (config.search.top_k, config.search.engine_type, config.rollout.slots) == (4, "bm25", 9)
    assert base["rollout"] == {"slots": 7}


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("# nothing\n", encoding="utf-8")
    assert load_config(tmp_path / "c.yaml") == Config()


def test_override_values_are_yaml() -> None:
    config = load_config(
        None, ["world.hops=[2, 4]", "logging.tensorboard=false", "search.knowledge_base=a=b", "training.max_steps=null"]
    )
    assert config.world.hops == (2, 4)
    assert config.logging.tensorboard is False
    assert config.search.knowledge_base == "a=b"
    assert config.training.max_steps is None


def test_overridden_keys() -> None:
    assert overridden_keys(["search.top_k=3", " seed = 4"]) == {"search.top_k", "seed"}


def test_what_a_file_or_an_override_names_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("seed: 1\nsearch: {engine_type: wiki}\nmodel:\n", encoding="utf-8")
    assert asked_keys(file, ["training.max_steps=2"]) == {"search.engine_type", "training.max_steps"}
    assert asked_keys(None, []) == frozenset()


def test_a_section_written_out_in_full_asks_only_for_what_it_changes(tmp_path: Path) -> None:
    shipped = CONFIGS / "config.yaml"
    assert asked_keys(shipped, []) == frozenset()
    assert asked_keys(shipped, ["search.engine_type=wiki"]) == {"search.engine_type"}
    file = tmp_path / "c.yaml"
    file.write_text(shipped.read_text(encoding="utf-8").replace("engine_type: wiki", "engine_type: mock"))
    assert asked_keys(file, []) == {"search.engine_type"}
    assert load_config(file).search == SearchSettings(engine_type="mock")


def test_a_mistake_is_blamed_on_the_file_or_on_the_override_that_holds_it(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("reward: {gamma_key: -1}", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"^config file {file}: reward\.gamma_key: "):
        load_config(file, ["training.max_steps=1"])
    with pytest.raises(ConfigError, match=r"^override 'training\.max_step=1': unknown key"):
        load_config(None, ["seed=1", "training.max_step=1"])
    file.write_text("phases: []", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"^config file {file}: unknown key phases"):
        load_config(file, ["warm_start.phases=[]"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "training.learning_rat=1",
            "'training.learning_rat=1': unknown key training.learning_rat; did you mean training.",
        ),
        ("trainin.max_steps=1", "override 'trainin.max_steps=1': unknown key trainin; did you mean training?"),
        ("training.batch_size=many", "training.batch_size: input should be a valid integer"),
        ("training.batch_size=0", "training.batch_size: input should be greater than or equal to 1, got 0"),
        ("model.tiny_layers=100", "model.tiny_layers: input should be less than or equal to 64, got 100"),
        ("seed.x=1", "override 'seed.x=1': seed: input should be a valid integer"),
        ("model=tiny", "override 'model=tiny': model: input should be a valid dictionary"),
        ("=1", "override '=1' is not of the form section.key=value"),
        ("seed", "override 'seed' is not of the form section.key=value"),
        (
            "rollout.max_passage_tokens=600",
            "rollout.max_passage_tokens=600 is more than rollout.max_observation_tokens=512: lower it",
        ),
        ("rollout.temperature=nan", "override 'rollout.temperature=nan': rollout.temperature:"),
        ("training.learning_rate=.inf", "training.learning_rate:"),
    ],
)
def test_a_wrong_override_is_one_clear_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(None, [override])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "must hold a mapping of sections, not a list"),
        ("model:\n  name: [unclosed\n", "line 3 is not YAML"),
        ("model: {name: tiny}\nmodle: {}\n", "unknown key modle; did you mean model?"),
        ("3: 4\n", "c.yaml"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_config(file)
    assert message in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml cannot be read: No such file"):
        load_config(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match=r"binary\.yaml"):
        load_config(tmp_path / "binary.yaml")


@pytest.mark.parametrize(
    ("overrides", "mend"),
    [
        (["training.critic=group", "training.rollouts_per_question=1"], "raise it to 2 or more"),
        (["training.critic=group", "training.value_warmup_steps=1"], "set it to 0"),
        (["training.critic=group", "training.kl_mode=reward"], "set training.kl_mode=loss"),
        (["training.critic=shared", "training.old_logprobs=rollout"], "set it to auto"),
        (["training.importance_cap=2", "training.old_logprobs=rollout"], "set it to auto"),
        (["training.parallel=fsdp", "training.offload=optimizer"], "set it to none"),
        (["training.parallel=fsdp", "lora.rank=8"], "set training.parallel to ddp"),
        (["training.offload=all", "lora.rank=8"], "set optimizer or none"),
        (["rollout.max_passage_tokens=90", "rollout.max_observation_tokens=80"], "lower it"),
    ],
)
def test_settings_that_exclude_each_other_are_refused_with_their_values(overrides: list[str], mend: str) -> None:
    others = ["training.rollouts_per_question=4"] if "training.critic=group" in overrides else []
    with pytest.raises(ConfigError) as error:
        load_config(None, [*others, *overrides])
    assert all(override in str(error.value) for override in overrides)
    assert str(error.value).endswith(mend)


@pytest.mark.parametrize("override", ["model.nam=x", "training.max_steps=many", "reward=3", "training.max_steps"])
def test_what_no_base_could_mend_is_refused_before_anything_is_loaded(override: str) -> None:
    with pytest.raises(ConfigError) as early:
        refuse_impossible(None, [override])
    with pytest.raises(ConfigError) as late:
        load_config(None, [override])
    assert str(early.value) == str(late.value)


def test_settings_that_exclude_each_other_may_not_do_so_beside_a_models() -> None:
    override = "rollout.max_passage_tokens=600"
    refuse_impossible(None, [override])
    load_config(None, [override], base={"rollout": {"max_observation_tokens": 900}})
    with pytest.raises(ConfigError, match="max_observation_tokens"):
        load_config(None, [override])
