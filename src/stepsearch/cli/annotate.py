"""`stepsearch annotate`: sub-questions and reference queries by a language model, kept where search confirms them."""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from stepsearch.chat_endpoint import (
    KNOWN_PRICES,
    Budget,
    ChatEndpoint,
    EndpointSettings,
    Prices,
    ReplyCache,
    request_key,
    resolved_base_url,
)
from stepsearch.cli.annotation_report import annotation_report, cost_text, result_lines, spent_text
from stepsearch.cli.progress import StageProgress, open_console, say
from stepsearch.config import SearchSettings, load_config
from stepsearch.data import read_questions, write_processed
from stepsearch.data.knowledge_base import knowledge_base_beside
from stepsearch.data.whole_files import require_writable, write_json
from stepsearch.errors import ConfigError, EndpointError
from stepsearch.preparation.annotation import AnnotationSettings, GapNote, Tally, annotate, estimate
from stepsearch.search import GuardedSearch, build_search_engine
from stepsearch.search.guarded_search import guard
from stepsearch.types import Question

# Some times the requests under way at once: a block waits for its last ones.
_BLOCK_PER_REQUEST = 4


def run(args: argparse.Namespace) -> None:
    """Annotate the questions, or say what it would cost.

    Raises:
        ConfigError: a limit without prices, or an output that is the input.
        DataError: the questions or the knowledge base cannot be read, or the output cannot be written.
        EndpointError: the endpoint cannot be used, or does not answer any more.
        SearchError: an engine cannot be built.
    """
    console = open_console()
    budget = Budget(max_cost=args.max_cost, prices=_prices(args))
    settings = EndpointSettings(args.model, args.base_url, concurrency=args.concurrency)
    questions = read_questions(args.input)[: args.max_questions]
    cache_path = args.cache or args.output.with_suffix(".cache.jsonl")
    with ReplyCache(cache_path) as cache:
        if args.dry_run:
            _say_estimate(questions, args, settings, cache, budget, console)
            return
        # Before anything is paid for.
        require_writable(args.output, [args.input])
        engines = _open_engines(args)
        endpoint = ChatEndpoint(settings, cache, budget)
        try:
            _annotate(questions, args, endpoint, engines, console)
        except KeyboardInterrupt:
            say(console, f"replies so far are kept in {cache_path}: the same command goes on from there")
            raise
        finally:
            endpoint.close()
            for engine in engines.values():
                engine.close()


def _annotate(
    questions: Sequence[Question],
    args: argparse.Namespace,
    endpoint: ChatEndpoint,
    engines: Mapping[str, GuardedSearch],
    console: Console,
) -> None:
    """Annotate, write output and report, and say what came of it."""
    started = time.perf_counter()
    settings = AnnotationSettings(args.queries_per_step, args.top_k, block=_BLOCK_PER_REQUEST * args.concurrency)
    progress = StageProgress(console, {"annotating": 1.0})
    with progress.running(), progress.stage("annotating", len(questions)) as advance:
        blocks = list(
            annotate(questions, endpoint, engines, settings, lambda amount: advance(amount, spent_text(endpoint)))
        )
    _refuse_silence(endpoint, [gap for block in blocks for gap in block.gaps])
    searches = {name: engine.take_statistics() for name, engine in engines.items()}
    tally = sum((block.tally for block in blocks), Tally())
    report_path = args.output.with_suffix(".report.json")
    report = {
        **{name: getattr(args, name) for name in ("queries_per_step", "top_k")},
        **{name: str(getattr(args, name)) for name in ("input", "output")},
        **annotation_report(endpoint, tally, searches, [gap for block in blocks for gap in block.gaps]),
        "seconds": time.perf_counter() - started,
    }
    write_processed(args.output, (question for block in blocks for question in block.questions))
    write_json(report_path, report)
    for line in result_lines(endpoint, tally, searches):
        say(console, line)
    say(console, f"written: {args.output}, {report_path}")


def _refuse_silence(endpoint: ChatEndpoint, gaps: Sequence[GapNote]) -> None:
    """Refuse to call questions annotated for which nothing was answered at all.

    Raises:
        EndpointError: every request failed.
    """
    usage = endpoint.usage
    if usage.failures and not usage.replies and not usage.cached:
        raise EndpointError(f"{endpoint.base_url} answered none of {usage.failures} requests ({gaps[0].reason})")


def _prices(args: argparse.Namespace) -> Prices | None:
    if args.prompt_price is None and args.completion_price is None:
        return KNOWN_PRICES.get(args.model)
    if args.prompt_price is None or args.completion_price is None:
        raise ConfigError("--prompt-price and --completion-price go together: set both")
    return Prices(args.prompt_price, args.completion_price)


def _open_engines(args: argparse.Namespace) -> dict[str, GuardedSearch]:
    search = load_config(args.config, args.overrides).search
    named = args.knowledge_base or (Path(search.knowledge_base) if search.knowledge_base else None)
    folder = named or knowledge_base_beside(args.input)
    return {name: _open_engine(search, name, folder) for name in dict.fromkeys(args.engines)}


def _open_engine(search: SearchSettings, name: str, folder: Path | None) -> GuardedSearch:
    settings = search.model_copy(update={"engine_type": name})
    return guard(build_search_engine(settings, folder), settings)


def _say_estimate(
    questions: Sequence[Question],
    args: argparse.Namespace,
    settings: EndpointSettings,
    cache: ReplyCache,
    budget: Budget,
    console: Console,
) -> None:
    base_url = resolved_base_url(settings)
    expected = estimate(
        questions,
        args.queries_per_step,
        lambda request: cache.get(request_key(base_url, settings.model, request)),
    )
    say(console, f"{len(questions):,} questions for {settings.model} at {base_url}; nothing is sent")
    say(console, f"requests: {expected.requests:,}, and {expected.cached:,} that the cache answers")
    tokens = expected.prompt_tokens, expected.completion_tokens
    say(console, f"tokens, estimated: {tokens[0]:,} of prompts and {tokens[1]:,} of replies")
    say(console, f"cost, estimated: {cost_text(budget.prices, *tokens)}")
