"""Every flag of every command, on one page. Light on imports, so that `--help` answers at once."""

import argparse
from pathlib import Path
from typing import Any

from rich_argparse import ArgumentDefaultsRichHelpFormatter

from stepsearch.cli.flag_types import amount, natural, positive, share

COMPARED = ("steppo", "ppo", "gain", "penalty", "key", "gain-penalty")
BM25, DENSE = "bm25", "dense"
FORMATS = ("verl", "jsonl", "processed", "corpus")
DEVICES = ("h200", "h100", "a100-80gb", "a100-40gb", "l40s", "rtx-4090", "rtx-3090", "cpu")
DATASETS = ("hotpotqa", "2wiki", "musique", "bamboogle")
_WITHOUT_SETTINGS = ("prepare-data", "audit", "export", "report", "compare-results", "push")
_OVERRIDES = "Trailing section.key=value tokens override settings, for example training.max_steps=10."


class _Help(ArgumentDefaultsRichHelpFormatter):
    """Says what a flag is by default, where that is something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_default = action.default is not None and action.default is not False
        return super()._get_help_string(action) if has_default else action.help


Commands = Any
"""What `add_subparsers` returns: argparse has no public name for it."""


def build_parser() -> tuple[argparse.ArgumentParser, Commands]:
    """Return the parser of `stepsearch` and its commands; a parsed namespace names its command in `command`."""
    parser = argparse.ArgumentParser(
        prog="stepsearch",
        description="Train language models to search, with a reward for every search step (StePPO).",
        formatter_class=_Help,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    _quickstart(_command(commands, "quickstart", "Run the whole pipeline on the embedded default, on a laptop."))
    _prepare_data(_command(commands, "prepare-data", "Turn benchmark files into training data and a knowledge base."))
    _annotate(_command(commands, "annotate", "Have a language model write sub-questions and reference queries."))
    _audit(_command(commands, "audit", "Check that a corpus has what questions need, and what training has seen."))
    _export(_command(commands, "export", "Write questions or a knowledge base in the formats of other programs."))
    _plan(_command(commands, "plan", "Say what a run needs before it starts: memory, time and disk."))
    _warm_start(_command(commands, "warm-start", "Let any model learn the form of an episode from demonstrations."))
    _train(_command(commands, "train", "Train a policy with StePPO."))
    _compare(_command(commands, "compare", "Compare training methods, or any two configs, over several seeds."))
    _evaluate(_command(commands, "evaluate", "Measure EM and F1 on benchmarks, or on questions of your own."))
    _compare_results(_command(commands, "compare-results", "Compare two evaluations question by question."))
    _report(_command(commands, "report", "Show an evaluation, and every trajectory, as one page for a browser."))
    _inference(_command(commands, "inference", "Ask a trained policy and watch it search."))
    _serve(_command(commands, "serve", "Answer questions over HTTP, as OpenAI's chat completions."))
    _push(_command(commands, "push", "Put a saved model with its card on the hub."))
    _index_dense(_command(commands, "index-dense", "Make vectors of a knowledge base, for dense search."))
    _index(_command(commands, "index", "Make passages searchable: a corpus, paragraphs of questions, or plain text."))
    _search(_command(commands, "search", "Search once, and see what is found."))
    _serve_search(_command(commands, "serve-search", "Answer searches over HTTP or MCP, as Search-R1's server does."))
    return parser, commands


def _command(commands: Commands, name: str, summary: str) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=None if name in _WITHOUT_SETTINGS else _OVERRIDES,
        formatter_class=_Help,
        allow_abbrev=False,
    )


def _settings(parser: argparse.ArgumentParser) -> None:
    _config(parser)
    parser.add_argument("--seed", type=int, metavar="N", help="Seeds data order, initialisation and sampling.")


def _config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="Settings as YAML; every key has a default.")


def _quickstart(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output-dir", type=Path, default=Path("runs/quickstart"), metavar="DIR", help="The run.")
    parser.add_argument("--resume", action="store_true", help="Go on with an interrupted run.")
    _settings(parser)


def _prepare_data(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--raw-musique-dir", type=Path, metavar="DIR", help="MuSiQue's published files.")
    source.add_argument("--raw-dir", type=Path, metavar="DIR", help="The published files of the benchmark --dataset.")
    source.add_argument("--hf-dataset", metavar="NAME[@CONFIG][:SPLIT]", help="A dataset of the hub, or a local one.")
    parser.add_argument("--dataset", choices=DATASETS, metavar="NAME", help=f"What --raw-dir holds. {_names()}")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="Where the prepared data goes.")
    parser.add_argument("--max-train-samples", type=positive, metavar="N", help="Keep the first N training questions.")
    parser.add_argument("--build-knowledge-base", action="store_true", help="Index every paragraph for searching.")
    parser.add_argument(
        "--corpus",
        type=Path,
        metavar="PATH",
        help="Make the knowledge base of a corpus: jsonl with id and contents, a .txt file with one passage a line, a "
        "folder of .txt and .md files, or whatever else index --input takes.",
    )
    _passage_words(parser)
    parser.add_argument("--without-index", action="store_true", help="Leave the knowledge base without its BM25 index.")


def _audit(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", type=Path, nargs="+", required=True, metavar="FILE", help="Questions, in any format that is read.")
    add(
        "--knowledge-base", type=Path, metavar="DIR", help="The corpus; default: knowledge_base/ beside the first file."
    )
    add("--train", type=Path, nargs="+", metavar="FILE", help="List what of the data stands in these training files.")
    add("--complete", action="store_true", help="Add the golden documents that the knowledge base lacks.")
    add("--threshold", type=share, default=0.9, metavar="X", help="Cosine of a near-duplicate.")
    add("--max-questions", type=positive, metavar="N", help="Only the first N questions of each file.")
    add("--output", type=Path, metavar="FILE", help="Write the report as JSON.")


def _export(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--input", type=Path, nargs="+", required=True, metavar="PATH", help="Questions, or knowledge bases; joined.")
    add("--format", choices=FORMATS, required=True, metavar="NAME", help=f"Any of: {', '.join(FORMATS)}.")
    add("--output", type=Path, required=True, metavar="FILE", help="The file; .jsonl and corpora may end in .gz.")
    add("--split", default="train", metavar="NAME", help="What verl's rows call their split.")


def _annotate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--input", type=Path, required=True, metavar="FILE", help="Questions, as prepare-data writes them.")
    add("--output", type=Path, required=True, metavar="FILE", help="The same questions, annotated.")
    add("--model", default="gpt-4o", metavar="NAME", help="As the endpoint calls it.")
    add("--base-url", metavar="URL", help="The endpoint, with its /v1. Default: OPENAI_BASE_URL, else OpenAI's own.")
    add("--engines", nargs="+", default=["bm25"], metavar="NAME", help="Search engines that vote.")
    add(
        "--knowledge-base", type=Path, metavar="DIR", help="What they search. Default: knowledge_base beside the input."
    )
    add("--queries-per-step", type=positive, default=5, metavar="N", help="Queries per sub-question.")
    add("--top-k", type=positive, default=3, metavar="K", help="Where a golden document has to be.")
    add("--max-questions", type=positive, metavar="N", help="Only the first N questions.")
    add("--concurrency", type=positive, default=8, metavar="N", help="Requests under way at once.")
    add("--max-cost", type=float, metavar="USD", help="Stop before more than this is spent.")
    add("--prompt-price", type=float, metavar="USD", help="Of a million prompt tokens. Known for gpt-4o: 2.50.")
    add("--completion-price", type=float, metavar="USD", help="Of a million tokens of reply. Known for gpt-4o: 10.")
    add("--cache", type=Path, metavar="FILE", help="Replies that are paid for. Default: beside the output.")
    add("--dry-run", action="store_true", help="Estimate requests, tokens and cost; send nothing.")
    _config(parser)


def _warm_start(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--demonstrations", type=Path, metavar="FILE", help="Chat messages or tagged text, a JSON object a line."
    )
    source.add_argument(
        "--musique-path", type=Path, metavar="FILE", help="Questions, whose reference queries are demonstrated."
    )
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="The model, and its logs.")
    _settings(parser)


def _train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--musique-path", type=Path, required=True, metavar="FILE", help="Training questions.")
    parser.add_argument("--output-dir", type=Path, required=True, metavar="DIR", help="The run: checkpoints, logs.")
    parser.add_argument("--eval-musique-path", type=Path, metavar="FILE", help="Questions that choose the best model.")
    parser.add_argument("--resume", action="store_true", help="Go on from the last checkpoint.")
    parser.add_argument(
        "--num-processes", type=positive, default=1, metavar="N", help="Processes that train together, one per GPU."
    )
    parser.add_argument("--push-to-hub", metavar="OWNER/NAME", help="Put the best model there, once it is trained.")
    _settings(parser)


def _push(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model-path", type=Path, required=True, metavar="DIR", help="A saved model.")
    add("--repo", required=True, metavar="OWNER/NAME", help="Where it goes; made where there is none.")
    add(
        "--results",
        type=Path,
        metavar="DIR",
        help="Output folder of an evaluation of it: its figures go into the card.",
    )
    add("--private", action="store_true", help="Let a repository that is made be private.")


def _plan(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--musique-path", type=Path, metavar="FILE", help="Training questions, to know the number of steps.")
    add("--device", choices=DEVICES, metavar="NAME", help=f"Any of: {', '.join(DEVICES)}. Default: h100; tiny: cpu.")
    add("--devices", type=positive, default=1, metavar="N", help="How many of them share the work.")
    add("--memory-gib", type=amount, metavar="X", help="What a device holds, in place of its data sheet's.")
    add("--teraflops", type=amount, metavar="X", help="Its peak for matrix products, in place of that.")
    add("--gigabytes-per-second", type=amount, metavar="X", help="Its memory's bandwidth, in place of that.")
    add("--efficiency", type=share, default=0.4, metavar="X", help="Share of the peaks that is reached.")
    add("--layer-milliseconds", type=amount, default=0.3, metavar="X", help="What a layer of one pass takes at least.")
    add("--prompt-tokens", type=positive, default=200, metavar="N", help="Of a question with its prompt.")
    add("--searches", type=amount, default=3.0, metavar="X", help="Of an episode, on average.")
    add("--turn-tokens", type=positive, default=100, metavar="N", help="That a turn samples, on average.")
    add("--measure", action="store_true", help="Measure the time with a short trial on this machine.")
    add("--json", action="store_true", help="Print the plan as JSON.")
    _config(parser)


def _compare(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--methods", nargs="+", metavar="NAME", help=f"Any of: {', '.join(COMPARED)}. Default: steppo ppo.")
    add("--method", action="append", metavar="NAME=…", help="One of your own: a FILE.yaml, or section.key=value,…")
    add(
        "--seeds",
        type=positive,
        default=5,
        metavar="N",
        help="How many seeds, each with its own start and generated world.",
    )
    add("--first-seed", type=natural, default=0, metavar="N", help="The first of them.")
    add("--output-dir", type=Path, default=Path("runs/compare"), metavar="DIR", help="All runs, and the report.")
    add("--jobs", type=positive, default=1, metavar="N", help="Runs trained at the same time, in processes.")
    add("--musique-path", type=Path, metavar="FILE", help="Training questions; default: a generated world.")
    add("--eval-musique-path", type=Path, metavar="FILE", help="Questions that choose the best checkpoint.")
    add("--test-musique-path", type=Path, metavar="FILE", help="Questions of the report.")
    add("--report-only", action="store_true", help="Make the report anew from the runs that are finished.")
    _config(parser)


def _evaluate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--model-path",
        required=True,
        metavar="DIR",
        help="A trained model, any causal LM by folder or hub name, openai:MODEL behind OPENAI_BASE_URL, or "
        "scripted:reference.",
    )
    add("--data", type=Path, nargs="+", metavar="FILE", help="Questions of your own, in any format that is read.")
    add("--datasets", nargs="+", choices=DATASETS, metavar="NAME", help=f"{_names()} Default: musique.")
    add("--musique-dir", type=Path, metavar="DIR", help="The benchmarks' files, for --datasets.")
    add("--output-dir", type=Path, required=True, metavar="DIR", help="Summary, tables, pictures and predictions.")
    add("--compare-baselines", action="store_true", help="Also measure six other ways of answering.")
    add("--compare-model", action="append", default=[], metavar="NAME=DIR", help="Also measure another model.")
    add("--judge", metavar="MODEL", help="Also ask a model behind OPENAI_BASE_URL whether each answer is right.")
    add(
        "--knowledge-base",
        type=Path,
        metavar="DIR",
        help="Search here. Default: knowledge_base/ beside the data, else the files' contexts.",
    )
    add("--max-questions", type=positive, metavar="N", help="Only the first N questions of each dataset.")
    add("--samples", type=positive, default=1, metavar="K", help="Episodes of every question, each with its own seed.")
    add("--temperature", type=float, metavar="T", help="Of the sampling: evaluation.temperature; 0 is greedy.")
    add("--resume", action="store_true", help="Go on with an interrupted evaluation.")
    _settings(parser)


def _compare_results(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("first", type=Path, metavar="A", help="Output folder of an evaluation, or one of its predictions files.")
    add("second", type=Path, metavar="B", help="The same; the differences are B minus A.")
    add("--output", type=Path, metavar="FILE", help="Write the figures as JSON.")


def _report(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--results", type=Path, required=True, metavar="DIR", help="Output folder of an evaluation.")
    add("--beside", type=Path, metavar="DIR", help="That of another, side by side on the same questions.")
    add("--training-logs", type=Path, metavar="DIR", help="The `logs` folder of a training run: curves, episodes.")
    add("--output", type=Path, metavar="FILE", help="The page, a .html file; default: report.html in the results.")
    add("--max-trajectories", type=positive, default=6000, metavar="N", help="To read; figures are over all.")


def _inference(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model-path", required=True, metavar="DIR", help="A trained model.")
    parser.add_argument("--mode", choices=("interactive", "single"), default="interactive", help="A session, or one.")
    parser.add_argument("--question", metavar="TEXT", help="What to ask in single mode.")
    parser.add_argument("--knowledge-base", type=Path, metavar="DIR", help="Search here, not where training did.")
    _settings(parser)


def _index_dense(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--knowledge-base", type=Path, required=True, metavar="DIR", help="Its passages, and where the index goes.")
    add("--encoder", metavar="NAME", help="Folder or hub name of a model; or search.dense.encoder.")
    _config(parser)


def _index(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--input",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="Corpora (jsonl with id and contents), questions with paragraphs, text files (.txt, one passage a line), "
        "folders of .txt and .md files (cut into passages at blank lines), or knowledge bases; joined.",
    )
    _passage_words(parser)
    add("--output", type=Path, required=True, metavar="DIR", help="The knowledge base; replaced where there is one.")
    add(
        "--engine",
        choices=(BM25, DENSE),
        default=BM25,
        metavar="NAME",
        help="What is to search it; dense: BM25 can, too.",
    )
    add("--encoder", metavar="NAME", help="For dense: folder or hub name of a model; or search.dense.encoder.")
    _config(parser)


def _passage_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--passage-words", type=positive, metavar="N", help="The most words of a folder's passages. Default: 100."
    )


def _search(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "query", metavar="QUERY", help="What to search for; after -- and last, where it looks like a flag or a setting."
    )
    add(
        "--index",
        dest="knowledge_base",
        type=Path,
        metavar="DIR",
        help="Search this knowledge base, with BM25 unless search.engine_type=NAME.",
    )
    add("--top-k", type=positive, metavar="K", help="How many passages. Default: search.top_k.")
    _config(parser)


def _serve(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model-path", required=True, metavar="DIR", help="A trained model.")
    add("--knowledge-base", type=Path, metavar="DIR", help="Search here, not where training did.")
    add("--name", metavar="TEXT", help="What clients call the model; default: its folder's name.")
    _address(parser)
    add("--max-open", type=positive, default=256, metavar="N", help="More unanswered questions: 503.")
    _config(parser)


def _address(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="Where to listen; 0.0.0.0: on every network.")
    add("--port", type=natural, default=8000, metavar="N", help="0 takes any that is free.")
    add("--token", metavar="TEXT", help="Bearer token that clients must show; or in STEPSEARCH_TOKEN.")


def _serve_search(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--knowledge-base", type=Path, metavar="DIR", help="Search here, with BM25 unless search.engine_type=NAME.")
    _address(parser)
    add("--workers", type=positive, default=1, metavar="N", help="Processes that share the index.")
    add("--max-batch", type=positive, default=256, metavar="N", help="Queries per call of the engine.")
    add("--batch-milliseconds", type=float, default=2.0, metavar="N", help="How long a query waits for others.")
    add("--max-waiting", type=positive, default=16_384, metavar="N", help="More unanswered queries: 503.")
    add("--max-queries", type=positive, default=4_096, metavar="N", help="Queries of one request.")
    add("--max-query-characters", type=positive, default=16_384, metavar="N", help="Length of one query.")
    add("--max-top-k", type=positive, default=100, metavar="N", help="Documents per query that may be asked for.")
    add("--max-request-bytes", type=positive, default=8_388_608, metavar="N", help="Size of one request.")
    mcp = parser.add_mutually_exclusive_group()
    mcp.add_argument("--mcp", action="store_true", help="Speak MCP on standard input and output instead of HTTP.")
    mcp.add_argument("--mcp-http", action="store_true", help="Also answer MCP, at /mcp.")
    _config(parser)


def _names() -> str:
    return f"Any of: {', '.join(DATASETS)}."
