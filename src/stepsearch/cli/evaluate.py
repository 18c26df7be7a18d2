"""`stepsearch evaluate`: EM and F1 of a model on the benchmarks."""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from stepsearch.cli.assembly import (
    BM25,
    EndpointPlayer,
    Player,
    find_corpus,
    guard,
    open_player,
    settings_of_model,
    use_threads,
)
from stepsearch.cli.progress import StageProgress, open_console, say
from stepsearch.cli.versions import package_versions
from stepsearch.config import Config, as_mapping, asked_keys
from stepsearch.data import Benchmark, find_benchmark_file, read_benchmark
from stepsearch.errors import DataError
from stepsearch.evaluation.baselines import BASELINES
from stepsearch.evaluation.baselines_table import baselines_table
from stepsearch.evaluation.evaluator import question_seeds, run_questions, write_predictions
from stepsearch.evaluation.metrics import EvaluationMetrics, measure
from stepsearch.evaluation.published import published_json
from stepsearch.evaluation.report import figures_table, write_json
from stepsearch.search import SearchEngine, build_search_engine
from stepsearch.search.bm25_search import BM25SearchEngine
from stepsearch.training.run_folder import RunFolder


@dataclass(frozen=True, slots=True)
class DatasetResult:
    """What was measured on one dataset; `baselines` is empty unless they were asked for."""

    file: Path
    metrics: EvaluationMetrics
    baselines: Mapping[str, EvaluationMetrics]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        baselines = {name: result.to_json() for name, result in self.baselines.items()}
        return {**self.metrics.to_json(), "file": str(self.file), "baselines": baselines or None}


def run(args: argparse.Namespace) -> None:
    """Evaluate on every dataset that was asked for; write summary and predictions, and print the tables.

    Raises:
        DataError: a file or the corpus is missing, or the output folder cannot be written.
        ModelError: the model cannot be loaded.
    """
    started = time.perf_counter()
    console = open_console()
    folder = RunFolder.at(args.output_dir, parts=("results",)).results
    files = {name: find_benchmark_file(args.musique_dir, name) for name in dict.fromkeys(args.datasets)}
    benchmarks = {name: read_benchmark(path, name) for name, path in files.items()}
    config = settings_of_model(args.model_path, args.config, args.overrides, args.knowledge_base)
    config, engine, corpus = choose_corpus(args, config, list(benchmarks.values()))
    say(console, corpus)
    use_threads(config)
    search = guard(engine or build_search_engine(config.search), config.search)
    player = open_player(config, search, folder / "replies.jsonl")
    results = {
        name: DatasetResult(files[name], *result)
        for name, result in evaluate_all(player, benchmarks, args, folder, console).items()
    }
    summary = {
        "model": str(args.model_path),
        "corpus": corpus,
        "datasets": {name: result.to_json() for name, result in results.items()},
        "published": published_json(str(args.model_path)) if args.compare_baselines else None,
        "seed": config.seed,
        "seconds": time.perf_counter() - started,
        "config": as_mapping(config),
        "versions": package_versions(),
    }
    write_json(folder / "evaluation_summary.json", summary)
    show(results, str(args.model_path), console)
    say(console, f"written to {folder}")


def choose_corpus(
    args: argparse.Namespace, config: Config, benchmarks: Sequence[Benchmark]
) -> tuple[Config, SearchEngine | None, str]:
    """Return the settings, the engine where it is not built from them, and a line that says what is searched.

    The corpus is the files' own contexts, all of them together, searched with BM25, unless the user names a knowledge
    base or another engine. The knowledge base that the model remembers is not it.

    Raises:
        DataError: nothing is asked for and the files have no contexts.
    """
    asked, search = asked_keys(args.config, args.overrides), config.search
    engine_asked = "search.engine_type" in asked
    corpus_named = search.knowledge_base and (args.knowledge_base is not None or "search.knowledge_base" in asked)
    if corpus_named or (engine_asked and search.engine_type != BM25):
        settings, line = find_corpus(search, None, engine_asked)
        return config.model_copy(update={"search": settings}), None, line
    passages = {passage.id: passage for benchmark in benchmarks for passage in benchmark.passages}
    if not passages:
        names = " and ".join(benchmark.dataset for benchmark in benchmarks)
        raise DataError(
            f"{names} comes without documents to search: name a corpus with --knowledge-base DIR, or evaluate it "
            "together with a dataset that has contexts"
        )
    line = f"search: bm25 over the {len(passages):,} passages of the benchmark files' own contexts"
    own = search.model_copy(update={"engine_type": BM25, "knowledge_base": None})
    config = config.model_copy(update={"search": own})
    return config, BM25SearchEngine.from_passages(list(passages.values())), line


def evaluate_all(
    player: Player | EndpointPlayer,
    benchmarks: Mapping[str, Benchmark],
    args: argparse.Namespace,
    folder: Path,
    console: Console,
) -> dict[str, tuple[EvaluationMetrics, dict[str, EvaluationMetrics]]]:
    """Return metrics and baselines of every dataset; writes the predictions of each as soon as they are there.

    Raises:
        ConfigError: a prompt does not fit the context.
    """
    questions = {name: benchmark.questions[: args.max_questions] for name, benchmark in benchmarks.items()}
    progress = StageProgress(console, {name: len(asked) for name, asked in questions.items()})
    for asked in questions.values():
        player.check_prompts(asked)
    evaluation = player.config.evaluation
    runner = player.runner(evaluation.temperature)
    results: dict[str, tuple[EvaluationMetrics, dict[str, EvaluationMetrics]]] = {}
    with progress.running():
        for name, asked in questions.items():
            seeds = question_seeds(player.config.seed, len(asked))
            with progress.stage(name, len(asked)) as advance:
                trajectories = run_questions(runner, asked, seeds, evaluation.batch_size, advance)
                write_predictions(folder / f"predictions_{name}.jsonl", trajectories)
                baselines: dict[str, EvaluationMetrics] = {}
                for method in BASELINES if args.compare_baselines else ():
                    other = player.baseline_runner(method, evaluation.temperature)
                    answered = run_questions(other, asked, seeds, evaluation.batch_size)
                    write_predictions(folder / f"predictions_{name}.{method}.jsonl", answered)
                    baselines[method] = measure(answered)
            results[name] = (measure(trajectories), baselines)
    return results


def show(results: Mapping[str, DatasetResult], model: str, console: Console) -> None:
    """Print the tables."""
    metrics = {name: result.metrics for name, result in results.items()}
    console.print(figures_table("Evaluation", metrics))
    if any(result.baselines for result in results.values()):
        measured = {
            name: {method: _figures(found) for method, found in {"model": result.metrics, **result.baselines}.items()}
            for name, result in results.items()
        }
        console.print(baselines_table(measured, model))


def _figures(metrics: EvaluationMetrics) -> dict[str, dict[str, Any]]:
    low, high = metrics.em_interval
    em = {"value": metrics.em, "low": low, "high": high, "count": metrics.count}
    return {"em": em, "f1": {"value": metrics.f1, "low": None, "high": None, "count": metrics.count}}
