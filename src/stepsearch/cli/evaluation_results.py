"""What an evaluation leaves: summary, tables, pictures, curves and the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from stepsearch.cli.evaluated_methods import MODEL
from stepsearch.cli.progress import say
from stepsearch.cli.stage_ledger import StageLedger
from stepsearch.cli.versions import package_versions
from stepsearch.config import Config, as_mapping
from stepsearch.data.whole_files import write_json, write_text
from stepsearch.evaluation.baselines import BASELINES
from stepsearch.evaluation.baselines_table import baselines_table
from stepsearch.evaluation.figures import MethodFigures, measure_methods
from stepsearch.evaluation.judging import Judge
from stepsearch.evaluation.metrics import EpisodeScore, mean, measure_scores
from stepsearch.evaluation.published import published_json
from stepsearch.evaluation.result_files import SUMMARY, predictions_path
from stepsearch.evaluation.result_plots import Results, plot_results
from stepsearch.evaluation.result_tables import Sheet, figures_sheet, methods_sheet
from stepsearch.evaluation.tensorboard_figures import write_tensorboard
from stepsearch.evaluation.viewer import write_report
from stepsearch.evaluation.viewer.report_page import FILE_NAME
from stepsearch.training.metric_log import METRICS
from stepsearch.types import Question, StopReason

TABLES, PLOTS, CURVES = "evaluation.md", "plots", "tensorboard"
_PAGE_WIDTH = 200
_MOST = 0.5

Scores = dict[str, dict[str, list[EpisodeScore]]]
"""Dataset to method to scores."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What is evaluated on, and where it is written.

    Attributes:
        folder: of the results.
        files: of the datasets, by name.
        questions: of the datasets, by name.
        corpus: what is searched, in words.
        samples: episodes of every question.
        config: of the model under evaluation.
        resume: whether to go on with what is there.
        judge: says whether answers are right; None where nobody is asked.
        console: shows the progress.
    """

    folder: Path
    files: Mapping[str, Path]
    questions: Mapping[str, Sequence[Question]]
    corpus: str
    samples: int
    config: Config
    resume: bool
    judge: Judge | None
    console: Console

    def predictions(self, dataset: str, method: str) -> Path:
        """Return where a method's episodes on a dataset are."""
        return predictions_path(self.folder, dataset, "" if method == MODEL else method)


def write_results(evaluation: Evaluation, scores: Scores, ledger: StageLedger, other_models: Mapping[str, str]) -> None:
    """Write summary, tables, pictures and curves, and print the tables."""
    folder, console = evaluation.folder, evaluation.console
    results = {dataset: measure_methods(methods) for dataset, methods in scores.items()}
    compared = any(name in BASELINES for methods in scores.values() for name in methods)
    summary = {
        "model": evaluation.config.model.name,
        "other_models": dict(other_models),
        "corpus": evaluation.corpus,
        "datasets": {name: dataset_json(evaluation, name, scores[name][MODEL], results[name]) for name in results},
        "published": published_json(evaluation.config.model.name) if compared else None,
        "seed": evaluation.config.seed,
        "samples": evaluation.samples,
        "seconds": sum(ledger.seconds.values()),
        "config": as_mapping(evaluation.config),
        "versions": package_versions(),
    }
    write_json(folder / SUMMARY, summary)
    write_text(folder / TABLES, tables_markdown(evaluation, results, compared))
    plot_results(folder / PLOTS, results)
    if evaluation.config.logging.tensorboard:
        write_tensorboard(folder / CURVES, results)
    logs = folder.parent / "logs"
    write_report(folder / FILE_NAME, folder, training_logs=logs if (logs / METRICS).is_file() else None)
    console.print(model_sheet(results).to_table())
    # Beside published numbers there is one table of all methods, else one a dataset with more figures.
    tables = [published_table(evaluation, results)] if compared else [of.to_table() for of in method_sheets(results)]
    for table in tables:
        console.print(table)
    for line in out_of_room(results):
        say(console, line)
    say(console, f"written to {folder}")


def out_of_room(results: Results) -> list[str]:
    """Return a line for each method of which most episodes ended for want of room: its zeros say little of it."""
    shares = {
        (dataset, name): of.figures[f"stop/{StopReason.CONTEXT_FULL}"].interval.value
        for dataset, methods in results.items()
        for name, of in methods.items()
        if f"stop/{StopReason.CONTEXT_FULL}" in of.figures
    }
    return [
        f"{dataset}, {name}: {share:.0%} of the episodes ended because the context was full (model.max_length)"
        for (dataset, name), share in shares.items()
        if share > _MOST
    ]


def dataset_json(
    evaluation: Evaluation,
    dataset: str,
    scores: Sequence[EpisodeScore],
    results: Mapping[str, MethodFigures],
) -> dict[str, Any]:
    """Return what the summary says of a dataset: the model's figures, and under `methods` everything else's."""
    others = {
        name: {
            **measured.to_json(),
            "difference": {figure: of.to_json() for figure, of in measured.difference.items()},
            "predictions": evaluation.predictions(dataset, name).name,
        }
        for name, measured in results.items()
        if name != MODEL
    }
    return {
        **measure_scores(scores, evaluation.samples).to_json(),
        "file": str(evaluation.files[dataset]),
        "predictions": evaluation.predictions(dataset, MODEL).name,
        **results[MODEL].to_json(),
        "per_seed": seeds_json(scores, evaluation.config.seed) if evaluation.samples > 1 else None,
        "methods": others,
    }


def seeds_json(scores: Sequence[EpisodeScore], first: int) -> list[dict[str, Any]]:
    """Return what an evaluation with each of the seeds alone would have found."""
    samples: dict[int, list[EpisodeScore]] = {}
    for score in scores:
        samples.setdefault(score.sample, []).append(score)
    return [
        {"seed": first + sample, "em": mean(of.em for of in played), "f1": mean(of.f1 for of in played)}
        for sample, played in sorted(samples.items())
    ]


def model_sheet(results: Results) -> Sheet:
    """Return the model's figures on every dataset."""
    return figures_sheet("Evaluation", {dataset: of[MODEL] for dataset, of in results.items()})


def method_sheets(results: Results) -> list[Sheet]:
    """Return all methods on each dataset, where there are others than the model."""
    return [methods_sheet(dataset, of) for dataset, of in results.items() if len(of) > 1]


def published_table(evaluation: Evaluation, results: Results) -> Table:
    """Return all methods on all datasets, and the published numbers of the model's own variant."""
    measured = {
        dataset: {name: {key: of.figures[key].to_json() for key in ("em", "f1")} for name, of in methods.items()}
        for dataset, methods in results.items()
    }
    differences = {
        dataset: {name: of.difference["em"].to_json() for name, of in methods.items() if of.difference}
        for dataset, methods in results.items()
    }
    return baselines_table(measured, evaluation.config.model.name, differences)


def tables_markdown(evaluation: Evaluation, results: Results, compared: bool) -> str:
    """Return all tables as one page."""
    parts = [f"# Evaluation of {evaluation.config.model.name}", evaluation.corpus]
    parts += [sheet.to_markdown() for sheet in (model_sheet(results), *method_sheets(results))]
    if compared:
        page = Console(file=StringIO(), width=_PAGE_WIDTH)
        with page.capture() as drawn:
            page.print(published_table(evaluation, results))
        parts.append(f"## Beside published numbers\n\n```\n{drawn.get().rstrip()}\n```")
    return "\n\n".join(parts) + "\n"
