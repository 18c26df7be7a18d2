"""Every mistake that a user can make gives one clear line, exit code 2, and nothing half-written."""

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from stepsearch.cli.main import main
from stepsearch.models.model_folder import RECORD

Refuse = Callable[..., str]
CONFIG = str(Path(__file__).parents[2] / "config" / "tiny.yaml")


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Run a command that has to be refused; return the one line it is refused with."""

    def refuse(*argv: object) -> str:
        assert main([str(part) for part in argv]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1, lines
        assert lines[0].startswith("error: ")
        return lines[0]

    return refuse


@pytest.fixture
def model(tmp_path: Path, qwen_folder: Path) -> Path:
    return shutil.copytree(qwen_folder, tmp_path / "model")


def test_a_refused_command_leaves_no_folder_behind(refuse: Refuse, tmp_path: Path) -> None:
    train = ("train", "--config", CONFIG, "--musique-path", tmp_path / "data.json", "--output-dir")
    item = {"question": "Who?", "answer": "Ada", "subquestions": []}
    (tmp_path / "data.json").write_text(json.dumps([item]))
    refuse(*train, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "users").mkdir()
    refuse(*train, tmp_path / "users")
    assert (tmp_path / "users").is_dir()


def test_a_model_that_remembers_no_search_is_said_to_before_wikipedia_fails(
    qwen_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        nobody = f"http://127.0.0.1:{free.getsockname()[1]}/w/api.php"
    (tmp_path / "own.yaml").write_text(f"search: {{retries: 0, wiki: {{url: '{nobody}'}}}}")
    asked = ["inference", "--model-path", str(qwen_folder), "--mode", "single", "--question", "Who?"]
    assert main([*asked, "--config", str(tmp_path / "own.yaml")]) == 2
    printed = capsys.readouterr()
    said = f"search: wiki, en.wikipedia.org: {qwen_folder} remembers no search settings; name a corpus with"
    assert said in " ".join(printed.out.split())
    assert f"search.engine_type wiki: {nobody} failed after 1 try" in printed.err


class TestPrepareData:
    def test_missing_files_are_named_with_where_they_are_published(self, refuse: Refuse, tmp_path: Path) -> None:
        line = refuse("prepare-data", "--raw-musique-dir", tmp_path, "--output-dir", tmp_path / "out")
        assert "musique_ans_v1.0_train.jsonl" in line
        assert "https://" in line

    def test_a_garbled_line_is_named(self, refuse: Refuse, tmp_path: Path, world: Path) -> None:
        raw = shutil.copytree(world / "raw", tmp_path / "raw")
        with (raw / "musique_ans_v1.0_dev.jsonl").open("a") as lines:
            lines.write('{"id": "cut off\n')
        line = refuse("prepare-data", "--raw-musique-dir", raw, "--output-dir", tmp_path / "out")
        assert "musique_ans_v1.0_dev.jsonl, line 13" in line
        assert not list((tmp_path / "out").glob("*"))

    def test_an_empty_file(self, refuse: Refuse, tmp_path: Path, world: Path) -> None:
        raw = shutil.copytree(world / "raw", tmp_path / "raw")
        (raw / "musique_ans_v1.0_train.jsonl").write_text("")
        line = refuse("prepare-data", "--raw-musique-dir", raw, "--output-dir", tmp_path / "out")
        assert "musique_ans_v1.0_train.jsonl" in line

    def test_an_output_folder_that_cannot_be_made(self, refuse: Refuse, tmp_path: Path, world: Path) -> None:
        (tmp_path / "file").write_text("")
        line = refuse("prepare-data", "--raw-musique-dir", world / "raw", "--output-dir", tmp_path / "file" / "out")
        assert str(tmp_path / "file") in line


class TestTrain:
    @pytest.fixture
    def train(self, refuse: Refuse, tmp_path: Path, world: Path) -> Refuse:
        def train(*more: object, data: object = world / "data" / "train_processed.json") -> str:
            out = tmp_path / "run"
            return refuse("train", "--musique-path", data, "--output-dir", out, "--config", CONFIG, *more)

        return train

    def test_a_missing_data_file(self, train: Refuse, tmp_path: Path) -> None:
        assert str(tmp_path / "no.json") in train(data=tmp_path / "no.json")

    @pytest.mark.parametrize("text", ["", "[]", "{", '[{"question": "Who?"}]', "\x00\x01"])
    def test_a_data_file_that_is_not_one(self, train: Refuse, tmp_path: Path, text: str) -> None:
        (tmp_path / "bad.json").write_text(text)
        assert str(tmp_path / "bad.json") in train(data=tmp_path / "bad.json")

    def test_a_missing_eval_file(self, train: Refuse, tmp_path: Path) -> None:
        assert str(tmp_path / "no.json") in train("--eval-musique-path", tmp_path / "no.json")

    def test_an_unknown_key(self, train: Refuse) -> None:
        assert "did you mean training.max_steps?" in train("training.max_step=3")

    def test_a_wrong_type(self, train: Refuse) -> None:
        assert "training.batch_size: input should be a valid integer" in train("training.batch_size=many")

    def test_a_missing_config(self, train: Refuse, tmp_path: Path) -> None:
        assert "no.yaml cannot be read" in train("--config", tmp_path / "no.yaml")

    def test_a_garbled_config(self, train: Refuse, tmp_path: Path) -> None:
        (tmp_path / "bad.yaml").write_text("model: [")
        assert "bad.yaml, line 1 is not YAML" in train("--config", tmp_path / "bad.yaml")

    def test_an_engine_that_is_not_there(self, train: Refuse) -> None:
        assert "search.engine_type quantum" in train("search.engine_type=quantum")

    def test_an_engine_that_the_users_own_file_names_is_not_passed_over(self, train: Refuse, tmp_path: Path) -> None:
        """Though a knowledge base lies beside the data."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            nobody = f"http://127.0.0.1:{free.getsockname()[1]}/w/api.php"
        (tmp_path / "own.yaml").write_text(f"search: {{engine_type: wiki, retries: 0, wiki: {{url: '{nobody}'}}}}")
        line = train("--config", tmp_path / "own.yaml")
        assert f"search.engine_type wiki: {nobody} failed after 1 try" in line
        assert "search.engine_type=bm25" in line

    def test_a_knowledge_base_that_is_not_there(self, train: Refuse, tmp_path: Path) -> None:
        assert str(tmp_path / "kb") in train(f"search.knowledge_base={tmp_path / 'kb'}")

    def test_an_empty_knowledge_base(self, train: Refuse, tmp_path: Path) -> None:
        (tmp_path / "kb").mkdir()
        assert "is no knowledge base" in train(f"search.knowledge_base={tmp_path / 'kb'}")

    def test_a_damaged_knowledge_base(self, train: Refuse, tmp_path: Path, world: Path) -> None:
        folder = shutil.copytree(world / "data" / "knowledge_base", tmp_path / "kb")
        passages = folder / "passages.jsonl"
        passages.write_bytes(passages.read_bytes()[:-20])
        assert "is not whole" in train(f"search.knowledge_base={folder}")

    def test_no_corpus_at_all(self, train: Refuse, tmp_path: Path, world: Path) -> None:
        alone = shutil.copy(world / "data" / "train_processed.json", tmp_path / "alone.json")
        assert "search.knowledge_base" in train(data=alone)

    def test_a_model_that_is_not_there(self, train: Refuse, tmp_path: Path) -> None:
        assert f"model folder {tmp_path / 'm'} does not exist" in train(f"model.name={tmp_path / 'm'}")

    def test_a_truncated_model(self, train: Refuse, model: Path) -> None:
        weights = model / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:2000])
        assert str(model) in train(f"model.name={model}")

    def test_a_model_without_tokenizer(self, train: Refuse, model: Path) -> None:
        (model / "tokenizer.json").unlink()
        (model / "tokenizer_config.json").unlink()
        assert "no tokenizer" in train(f"model.name={model}")

    def test_sampling_that_is_not_what_is_trained(self, train: Refuse) -> None:
        assert "rollout.top_p=0.9" in train("rollout.top_p=0.9")

    def test_budgets_that_cannot_fit(self, train: Refuse) -> None:
        assert "model.max_length=60" in train("model.max_length=60")

    def test_a_prompt_that_does_not_fit(self, train: Refuse) -> None:
        assert "is too short: prompt" in train("model.max_length=150")

    def test_an_output_folder_that_cannot_be_made(self, train: Refuse, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert "cannot be made" in train("--output-dir", tmp_path / "file")


class TestEvaluate:
    @pytest.fixture
    def evaluate(self, refuse: Refuse, tmp_path: Path) -> Refuse:
        def evaluate(model: Path, folder: Path, *more: object) -> str:
            out = tmp_path / "results"
            return refuse("evaluate", "--model-path", model, "--musique-dir", folder, "--output-dir", out, *more)

        return evaluate

    def test_a_missing_file_is_named_with_what_was_looked_for(
        self, evaluate: Refuse, model: Path, tmp_path: Path
    ) -> None:
        line = evaluate(model, tmp_path, "--datasets", "hotpotqa")
        assert "hotpot_dev_distractor_v1.json" in line
        assert "hotpot_dev_fullwiki_v1.json" in line

    def test_a_dataset_without_documents_needs_a_corpus(self, evaluate: Refuse, model: Path, tmp_path: Path) -> None:
        record = {"id": "1", "question": "Who?", "golden_answers": ["me"]}
        (tmp_path / "bamboogle.jsonl").write_text(json.dumps(record) + "\n")
        assert "--knowledge-base" in evaluate(model, tmp_path, "--datasets", "bamboogle")

    def test_a_garbled_file(self, evaluate: Refuse, model: Path, tmp_path: Path) -> None:
        (tmp_path / "2wiki.json").write_text('[{"_id": ')
        assert "2wiki.json" in evaluate(model, tmp_path, "--datasets", "2wiki")

    def test_a_model_that_is_not_there(self, evaluate: Refuse, world: Path, tmp_path: Path) -> None:
        assert f"model folder {tmp_path / 'm'} does not exist" in evaluate(tmp_path / "m", world / "raw")

    def test_a_damaged_record(self, evaluate: Refuse, model: Path, world: Path) -> None:
        (model / RECORD).write_text("{")
        assert f"{RECORD} is not JSON" in evaluate(model, world / "raw")

    def test_a_record_with_unknown_settings(self, evaluate: Refuse, model: Path, world: Path) -> None:
        (model / RECORD).write_text(json.dumps({"search": {"top_q": 3}}))
        assert f"{model / RECORD}: unknown key search.top_q" in evaluate(model, world / "raw")

    def test_a_knowledge_base_that_is_not_there(
        self, evaluate: Refuse, model: Path, world: Path, tmp_path: Path
    ) -> None:
        assert str(tmp_path / "kb") in evaluate(model, world / "raw", "--knowledge-base", tmp_path / "kb")


class TestInference:
    def test_single_mode_needs_a_question(self, refuse: Refuse, model: Path) -> None:
        assert "--question" in refuse("inference", "--model-path", model, "--mode", "single")
        assert "--question" in refuse("inference", "--model-path", model, "--mode", "single", "--question", " ")

    def test_a_corpus_that_has_moved(self, refuse: Refuse, model: Path) -> None:
        record = {"search": {"engine_type": "bm25", "knowledge_base": "/moved/away"}}
        (model / RECORD).write_text(json.dumps(record))
        line = refuse("inference", "--model-path", model, "--mode", "single", "--question", "Who?")
        assert "/moved/away is not there" in line
        assert "--knowledge-base DIR" in line


class TestQuickstart:
    def test_an_output_folder_that_cannot_be_made(self, refuse: Refuse, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        assert "cannot be made" in refuse("quickstart", "--output-dir", tmp_path / "file" / "run")

    def test_an_unknown_key(self, refuse: Refuse, tmp_path: Path) -> None:
        assert "did you mean world?" in refuse("quickstart", "--output-dir", tmp_path, "worlt.scale=1")

    def test_resuming_with_other_settings(self, refuse: Refuse, tmp_path: Path) -> None:
        ledger = {"config": {"seed": 1}, "seconds": {}, "cpu_seconds": {}, "started": [], "finished": []}
        (tmp_path / "quickstart.json").write_text(json.dumps(ledger))
        assert "other settings" in refuse("quickstart", "--output-dir", tmp_path, "--resume")
        (tmp_path / "quickstart.json").write_text("{")
        assert "start anew without --resume" in refuse("quickstart", "--output-dir", tmp_path, "--resume")
