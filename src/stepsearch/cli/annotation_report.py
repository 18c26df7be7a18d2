"""What an annotation came to: lines for people, and a record for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from stepsearch.chat_endpoint import ChatEndpoint, Prices
from stepsearch.preparation.annotation import GapNote, Tally
from stepsearch.search import SearchStatistics

# Enough to see what goes wrong.
_REPORTED_GAPS = 100


def cost_text(prices: Prices | None, prompt_tokens: int, completion_tokens: int) -> str:
    """Return what tokens cost, with the prices that holds for."""
    if prices is None:
        return "unknown; say --prompt-price and --completion-price"
    each = f"{prices.prompt:g} and {prices.completion:g} USD a million"
    return f"{prices.cost(prompt_tokens, completion_tokens):.2f} USD (at {each})"


def spent_text(endpoint: ChatEndpoint) -> str:
    """Return what an endpoint has cost so far, in a few words."""
    usage, prices = endpoint.usage, endpoint.budget.prices
    if prices is None:
        return f"{usage.prompt_tokens + usage.completion_tokens:,} tokens"
    return f"{prices.cost(usage.prompt_tokens, usage.completion_tokens):.2f} USD"


def result_lines(endpoint: ChatEndpoint, tally: Tally, searches: Mapping[str, SearchStatistics]) -> list[str]:
    """Return what was annotated, what the rules had to do, and what it cost."""
    usage = endpoint.usage
    annotated = tally.questions - tally.not_reached - tally.without_steps
    as_they_came = tally.rewriting_malformed + tally.rewriting_failed
    lines = [
        f"{annotated:,} of {tally.questions:,} questions annotated, {tally.sub_questions:,} sub-questions",
        f"queries: {tally.queries_kept:,} kept of {tally.queries_proposed:,} proposed; {tally.queries_rejected:,} "
        f"found no golden document, {tally.queries_leaking:,} named their answer",
        f"the rules filled in: steps of {as_they_came:,} questions as they came, queries of "
        f"{tally.sub_questions_from_rules:,} sub-questions, of which {tally.sub_questions_without_queries:,} have none "
        "that finds",
        f"requests: {usage.replies:,} paid, {usage.cached:,} from the cache, {usage.retries:,} tried again, "
        f"{usage.failures:,} failed",
        f"tokens paid: {usage.prompt_tokens:,} of prompts and {usage.completion_tokens:,} of replies",
        f"cost: {cost_text(endpoint.budget.prices, usage.prompt_tokens, usage.completion_tokens)}",
    ]
    lines += [
        f"{name}: {statistics.failures:,} of {statistics.queries:,} searches failed and had no vote"
        for name, statistics in searches.items()
        if statistics.failures
    ]
    if tally.not_reached:
        lines.append(
            f"the budget of {endpoint.budget} is spent: {tally.not_reached:,} questions stay as they were; the same "
            "command with a higher --max-cost goes on from there"
        )
    return lines


def annotation_report(
    endpoint: ChatEndpoint, tally: Tally, searches: Mapping[str, SearchStatistics], gaps: Sequence[GapNote]
) -> dict[str, Any]:
    """Return plain JSON values: counts, tokens and cost, searches, and where the model failed."""
    usage, prices = endpoint.usage, endpoint.budget.prices
    in_all = usage.prompt_tokens + usage.cached_prompt_tokens, usage.completion_tokens + usage.cached_completion_tokens
    return {
        "model": endpoint.model,
        "base_url": endpoint.base_url,
        "counts": asdict(tally),
        "usage": asdict(usage),
        "prices": prices and asdict(prices),
        "cost": prices and prices.cost(usage.prompt_tokens, usage.completion_tokens),
        "cost_with_cache": prices and prices.cost(*in_all),
        "engines": {name: asdict(statistics) for name, statistics in searches.items()},
        "gaps": [asdict(gap) for gap in gaps[:_REPORTED_GAPS]],
    }
