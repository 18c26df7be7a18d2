"""A comparison in small: shared starts, runs that go on, and a report with the same figures however it was made."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from small_settings import SMALL

from stepsearch.cli.main import main
from stepsearch.training.steppo_trainer import StePPOTrainer


def compare(folder: Path, *more: str, seeds: int = 2, methods: tuple[str, ...] = ("steppo,ppo",)) -> int:
    return main(["compare", "--output-dir", str(folder), "--methods", *methods, "--seeds", str(seeds), *SMALL, *more])


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "comparison.json").read_text(encoding="utf-8"))


def without_times(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != "runs"}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    assert compare(folder) == 0
    return folder


def test_what_is_written(compared: Path) -> None:
    record = read(compared)
    assert [method["name"] for method in record["methods"]] == ["steppo", "ppo"]
    assert record["methods"][1]["settings"] == ["reward.step_scale=0", "reward.gamma_key=0"]
    assert (record["reference"], record["seeds"], record["questions"]) == ("steppo", [0, 1], [6, 6])
    assert record["figures"].keys() == {"before", "steppo", "ppo"}
    promised = {
        "em", "em_2_hops", "em_3_hops", "em_4_hops", "em_sampled", "f1", "golden_recall", "searches_per_question",
        "redundancy", "format_rate",
    }  # fmt: skip
    for method in ("steppo", "ppo"):
        assert record["figures"][method].keys() == promised | {"dev_em_over_training"}
    assert record["differences"].keys() == {"ppo"}
    assert record["curves"]["ppo"]["dev_em"]["steps"] == [0, 1, 2]
    assert {"stepsearch", "matplotlib"} <= record["versions"].keys()
    for each in record["runs"]:
        assert min(each["cpu_seconds"].values()) > 0
    assert (compared / "curves.png").read_bytes().startswith(b"\x89PNG")
    report = (compared / "comparison.md").read_text(encoding="utf-8")
    assert "Difference to steppo" in report
    assert "bootstrap over 2 seeds" in report
    assert not list(compared.glob("*.tmp"))


def test_methods_share_a_start_and_a_run_is_like_trains(compared: Path) -> None:
    for seed in (0, 1):
        folders = sorted(path.name for path in (compared / f"seed-{seed}").iterdir())
        assert [name.partition("-")[0] for name in folders] == ["ppo", "start", "steppo"]
        for method in ("steppo", "ppo"):
            run = compared / f"seed-{seed}" / method
            assert (run / "checkpoints" / "best_model" / "model.safetensors").is_file()
            assert (run / "results" / "predictions_after_sampled.jsonl").is_file()
    first, second = ((compared / f"seed-0/{m}/logs/metrics.jsonl").read_text() for m in ("steppo", "ppo"))
    start, again = (json.loads(text.splitlines()[0]) for text in (first, second))
    assert {k: v for k, v in start.items() if k[:5] != "time/"} == {k: v for k, v in again.items() if k[:5] != "time/"}


def test_a_finished_comparison_is_not_run_again(compared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(compared)
    monkeypatch.setattr(StePPOTrainer, "train", None)
    assert compare(compared) == 0
    assert read(compared) == before
    assert compare(compared, "--report-only", seeds=1) == 0
    assert read(compared)["seeds"] == [0]
    assert compare(compared) == 0


@pytest.mark.slow
def test_an_interrupted_comparison_goes_on_to_the_same_figures(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step, taken = StePPOTrainer.train_step, 0

    def interrupted(trainer: StePPOTrainer, log: Any) -> dict[str, float]:
        nonlocal taken
        taken += 1
        if taken == 4:
            raise KeyboardInterrupt
        return take_step(trainer, log)

    monkeypatch.setattr(StePPOTrainer, "train_step", interrupted)
    assert compare(tmp_path) == 130
    output = capsys.readouterr().out
    assert "the same command goes on" in output
    assert "seed 0: steppo: finished" in output
    # In the middle of the second run.
    assert (tmp_path / "seed-0" / "ppo" / "checkpoints" / "step-000001").is_dir()
    assert compare(tmp_path, "--report-only") == 2
    assert "no seed with every method finished" in capsys.readouterr().err
    monkeypatch.setattr(StePPOTrainer, "train_step", take_step)
    assert compare(tmp_path) == 0
    assert "seed 0: steppo: finished" not in capsys.readouterr().out
    assert without_times(read(tmp_path)) == without_times(read(compared))


@pytest.mark.slow
def test_processes_make_the_same_figures(compared: Path, tmp_path: Path) -> None:
    assert compare(tmp_path, "--jobs", "2") == 0
    assert without_times(read(tmp_path)) == without_times(read(compared))


@pytest.mark.slow
def test_ctrl_c_ends_all_processes_with_checkpoints(compared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "interrupted"
    shutil.copytree(compared, folder)
    shutil.rmtree(folder / "seed-0" / "steppo")
    shutil.rmtree(folder / "seed-0" / "ppo")
    flags = ["--output-dir", str(folder), "--seeds", "1", "--jobs", "2", *SMALL]
    # However the tests were started, this process is to be interruptible.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from stepsearch.cli.main import main; sys.exit(main())"
    run = subprocess.Popen(
        [sys.executable, "-c", code, "compare", *flags, "training.max_steps=100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    logs = [folder / "seed-0" / method / "logs" / "metrics.jsonl" for method in ("steppo", "ppo")]
    while not all(log.is_file() and len(log.read_text().splitlines()) > 2 for log in logs):
        assert run.poll() is None, run.communicate()[1]
        time.sleep(0.05)
    run.send_signal(signal.SIGINT)
    try:
        output, errors = run.communicate(timeout=120)
    finally:
        run.kill()
    assert run.returncode == 130, errors
    assert "the same command goes on from the last checkpoints:\n  stepsearch compare --output-dir" in output
    assert errors.strip() == "interrupted"
    for log in logs:
        steps = json.loads(log.read_text().splitlines()[-1])["step"]
        assert (log.parents[1] / "checkpoints" / f"step-{steps:06d}").is_dir()


@pytest.mark.slow
def test_an_error_in_a_process_is_one_line(compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(compared, folder)
    for run in (folder / "seed-0" / "ppo", folder / "seed-1" / "ppo"):
        shutil.rmtree(run)
    for start in folder.glob("seed-*/start-*"):
        (start / "warm_start" / "config.json").unlink()
    assert compare(folder, "--jobs", "2") == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert errors[-1].startswith("error: seed ")
    assert ": ppo: model" in errors[-1]
    assert "Traceback" not in "".join(errors)


@pytest.mark.slow
def test_a_method_with_another_start_has_its_own(tmp_path: Path) -> None:
    more = ("--method", "short=training.batch_size=2", "--method", "terse=rollout.max_turn_tokens=12")
    assert compare(tmp_path, *more, seeds=1, methods=("ppo",)) == 0
    assert len(list((tmp_path / "seed-0").glob("start-*"))) == 2
    record = read(tmp_path)
    assert (record["reference"], list(record["differences"])) == ("ppo", ["short", "terse"])
    assert "before" not in record["figures"]
    assert "questions alone" in record["intervals"]


def test_own_questions(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = world / "data"
    files = (
        "--musique-path",
        str(data / "train_processed.json"),
        "--eval-musique-path",
        str(data / "dev_processed.json"),
    )
    assert compare(tmp_path, *files, seeds=1) == 0
    assert "search: bm25, knowledge base " in capsys.readouterr().out
    # Of twelve dev questions four choose the best checkpoint.
    assert read(tmp_path)["questions"] == [8]
    assert not list(tmp_path.glob("seed-0/start-*/raw"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--methods", "steppo,pppo"), "unknown method pppo: known are steppo, ppo"),
        (("--methods", "ppo", "ppo"), "method ppo is named twice"),
        (("--method", "ppo=reward.answer=false"), "method ppo is named twice"),
        (("--method", "x=reward.gama_key=0"), "method x: override 'reward.gama_key=0': unknown key"),
        (("--method", "x=missing.yaml"), "method x: config file missing.yaml cannot be read"),
        (("--method", "x"), "is not of the form NAME=FILE.yaml"),
        (("--method", "x=seed=3"), "choose them by --seeds and --first-seed"),
        (("seed=3",), "choose them by --seeds and --first-seed"),
        (("--musique-path", "none.json"), "--musique-path needs --eval-musique-path"),
        (("--eval-musique-path", "none.json"), "need --musique-path"),
        (("--musique-path", "none.json", "--eval-musique-path", "none.json"), "none.json does not exist"),
    ],
)
def test_bad_input_is_one_line(
    more: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(tmp_path / "out", *more) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoints").mkdir()
    assert compare(tmp_path) == 2
    assert "something else than a comparison" in capsys.readouterr().err
    assert compare(compared, "training.clip_range=0.3") == 2
    assert "(training.clip_range=0.2, not 0.3)" in capsys.readouterr().err


def test_no_seed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        compare(Path("nowhere"), seeds=0)
    assert stop.value.code == 2
    assert "expected a whole number of at least 1, got '0'" in capsys.readouterr().err.replace("\n", " ")


def test_a_world_that_is_refused_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "refused"
    assert compare(folder, "world.scale=1000") == 2
    assert "world.scale 1000 needs" in capsys.readouterr().err
    assert not folder.exists()
