"""The card says what the record says, in a form that the hub's own library reads back."""

import json
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from stepsearch.errors import ModelError
from stepsearch.models import StepSearchModel
from stepsearch.models.model_card import model_card
from stepsearch.models.model_folder import read_run, rewrite_run
from stepsearch.models.run_record import CorpusUsed, QuestionsUsed, Result, RunRecord

RUN = RunRecord(
    method="StePPO",
    seed=7,
    base_model="Qwen/Qwen2.5-3B",
    step=120,
    total_steps=500,
    questions=(
        QuestionsUsed("training", "train_processed.json", {"musique": 9000, "hotpotqa": 1000}),
        QuestionsUsed("choosing the best model", "dev|odd.json", {"musique": 256}),
    ),
    corpus=CorpusUsed("bm25", 3, 139_416, "1f0c", 20_000, 19_000),
    settings={"training.batch_size": 256, "warm_start.phases": [{"kind": "reading", "note": "a | `b`"}]},
    results=(
        Result("musique", "dev", "em", 0.25, 256, 0.2, 0.31),
        Result("musique", "dev", "f1", 0.34567, 256),
        Result("musique", "dev", "golden_recall", 0.5, 256),
    ),
    commands=("stepsearch prepare-data --raw-musique-dir data", "stepsearch train 'training.x=a b'"),
    versions={"python": "3.11.7", "torch": "2.13.0"},
)


def test_the_hubs_library_reads_the_card_back() -> None:
    content = model_card(RUN, "instructions")
    data = ModelCard(content).data
    assert data.base_model == "Qwen/Qwen2.5-3B"
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")
    assert data.tags[-1] == "reinforcement-learning"
    assert data.datasets == ["hotpotqa", "musique"]
    assert data.metrics == ["exact_match", "f1"]
    assert data.model_name == "Qwen2.5-3B, StePPO"
    em, f1 = data.eval_results
    assert (em.metric_type, em.metric_value, em.dataset_name, em.dataset_split) == (
        "exact_match",
        0.25,
        "musique",
        "dev",
    )
    assert em.metric_name == "EM (256 questions, 95 % 0.200 to 0.310)"
    assert (f1.metric_type, f1.metric_value, f1.metric_name) == ("f1", 0.3457, "F1 (256 questions)")
    # Written again, it is the same.
    assert ModelCard(str(ModelCard(content))).data.to_dict() == data.to_dict()


def test_the_card_tells_everything_that_the_record_does() -> None:
    content = model_card(RUN, "instructions", has_adapter=True)
    for line in (
        "Made with StepSearch by StePPO, from `Qwen/Qwen2.5-3B`, after step 120 of 500.",
        "| training | train_processed.json | 10,000 (musique 9,000, hotpotqa 1,000) |",
        r"| choosing the best model | dev\|odd.json | 256 (musique 256) |",
        "Searched with `bm25`, 3 documents a query, in a corpus of 139,416 passages with the fingerprint `1f0c`, which "
        "has 19,000 of the 20,000 golden documents of the training questions (95.0%).",
        "Seed 7.",
        "| `training.batch_size` | `256` |",
        "| musique | dev | EM | 0.250 | 0.200 – 0.310 | 256 |",
        "| musique | dev | F1 | 0.346 |  | 256 |",
        "stepsearch prepare-data --raw-musique-dir data\nstepsearch train 'training.x=a b'",
        "python 3.11.7, torch 2.13.0",
        'stop_strings=["</search>", "</answer>"]',
        'stop=["</search>", "</answer>"], include_stop_str_in_output=True',
        "stepsearch inference --model-path MODEL --mode single",
        "`adapter/` has it alone",
        "The dev questions chose this model",
    ):
        assert line in content


def test_nothing_is_invented() -> None:
    content = model_card(RunRecord(method="warm start", seed=0), "question")
    data = ModelCard(content).data.to_dict()
    assert set(data) == {"library_name", "pipeline_tag", "tags"}
    # A warm start is supervised.
    assert "reinforcement-learning" not in data["tags"]
    for absent in ("## Results", "## Commands", "## Versions", "## Settings", "Searched with", "dev questions", "None"):
        assert absent not in content
    assert "# the tiny policy, warm start" in content


def test_a_model_that_began_in_a_folder_is_named_by_it() -> None:
    content = model_card(RunRecord(method="StePPO", seed=0, base_folder="my-llama"), "question")
    assert "# my-llama, StePPO" in content
    assert "Made with StepSearch by StePPO, from `my-llama`." in content
    assert "base_model" not in ModelCard(content).data.to_dict()


def test_a_model_of_unknown_origin_has_a_card_too() -> None:
    content = model_card(None, "question")
    assert ModelCard(content).data.library_name == "transformers"
    assert "## Use" in content
    assert "## Training" not in content


@pytest.mark.parametrize("style", ["question", "instructions", "chat"])
def test_the_code_in_the_card_is_python(style: str) -> None:
    blocks = model_card(None, style).split("```python\n")[1:]
    assert len(blocks) == 2
    for block in blocks:
        compile(block.partition("```")[0], "card", "exec")


def test_a_record_survives_json() -> None:
    assert RunRecord.from_json(json.loads(json.dumps(RUN.to_json()))) == RUN


def test_new_results_replace_those_of_the_same_questions() -> None:
    new = (Result("musique", "dev", "em", 0.5, 10), Result("musique", "test", "em", 0.4, 20))
    assert RUN.with_results(new).results == new


def test_a_saved_model_has_its_card_and_can_be_told_more(policy: StepSearchModel, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    policy.save(folder, {"run": RUN.to_json()})
    assert read_run(str(folder)) == RUN
    assert ModelCard.load(folder / "README.md").data.base_model == "Qwen/Qwen2.5-3B"
    tested = RUN.with_results((Result("musique", "test", "em", 0.625, 2417, 0.61, 0.64),))
    rewrite_run(folder, tested)
    assert read_run(str(folder)) == tested
    assert "| musique | test | EM | 0.625 |" in (folder / "README.md").read_text(encoding="utf-8")


def test_a_damaged_record_is_named(policy: StepSearchModel, tmp_path: Path) -> None:
    policy.save(tmp_path / "model", {})
    record = json.loads((tmp_path / "model" / "stepsearch.json").read_text(encoding="utf-8"))
    (tmp_path / "model" / "stepsearch.json").write_text(json.dumps({**record, "run": {"seed": 1, "odd": 2}}))
    with pytest.raises(ModelError, match=r"stepsearch\.json, run: it is no record of a run"):
        read_run(str(tmp_path / "model"))
