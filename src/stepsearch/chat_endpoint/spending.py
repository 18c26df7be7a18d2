"""What replies cost, and how much may be spent."""

from dataclasses import astuple, dataclass, replace

from stepsearch.chat_endpoint.messages import ChatFailure, ChatReply
from stepsearch.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Prices:
    """US dollars for a million tokens.

    Raises:
        ConfigError: a price below 0.
    """

    prompt: float
    completion: float

    def __post_init__(self) -> None:
        if not (self.prompt >= 0 and self.completion >= 0):
            raise ConfigError(f"prices are {self.prompt} and {self.completion} USD a million: they must be 0 or more")

    def cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return what so many tokens cost, in US dollars."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6


# List prices of 2026 of the default model. Prices change, and every other model has its own: they are settings.
KNOWN_PRICES = {"gpt-4o": Prices(2.5, 10.0)}


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be spent; None is no limit.

    Attributes:
        max_cost: US dollars.
        max_tokens: prompt and completion tokens together.
        prices: what tokens cost; None where that is unknown.

    Raises:
        ConfigError: a cost limit without prices, or a limit that is no positive number.
    """

    max_cost: float | None = None
    max_tokens: int | None = None
    prices: Prices | None = None

    def __post_init__(self) -> None:
        if self.max_cost is not None and self.prices is None:
            raise ConfigError("a cost limit needs prices: set --prompt-price and --completion-price (USD per million)")
        for name, limit in (("cost", self.max_cost), ("token", self.max_tokens)):
            if limit is not None and not limit > 0:
                raise ConfigError(f"the {name} limit is {limit}: it must be more than 0")

    def covers(self, prompt_tokens: int, completion_tokens: int) -> bool:
        """Return whether so many tokens in all are within the limits."""
        if self.max_tokens is not None and prompt_tokens + completion_tokens > self.max_tokens:
            return False
        if self.max_cost is None or self.prices is None:
            return True
        return self.prices.cost(prompt_tokens, completion_tokens) <= self.max_cost

    def __str__(self) -> str:
        limits = [] if self.max_cost is None else [f"{self.max_cost:g} USD"]
        limits += [] if self.max_tokens is None else [f"{self.max_tokens:,} tokens"]
        return " and ".join(limits) or "no limit"


@dataclass(frozen=True, slots=True)
class ChatUsage:
    """What was asked of an endpoint so far.

    Attributes:
        replies: paid for now.
        prompt_tokens: of these.
        completion_tokens: of these.
        cached: replies that the cache had.
        cached_prompt_tokens: what those had cost when they were paid for.
        cached_completion_tokens: the same.
        retries: tries that had to be made again.
        failures: requests whose every try failed.
        over_budget: requests that were not sent.
    """

    replies: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: int = 0
    cached_prompt_tokens: int = 0
    cached_completion_tokens: int = 0
    retries: int = 0
    failures: int = 0
    over_budget: int = 0

    def since(self, before: "ChatUsage") -> "ChatUsage":
        """Return what came on top of an earlier usage of the same endpoint."""
        return ChatUsage(*(now - then for now, then in zip(astuple(self), astuple(before), strict=True)))

    def plus(self, result: ChatReply | ChatFailure, retries: int = 0) -> "ChatUsage":
        """Return the usage after one more outcome, which took so many further tries."""
        usage = replace(self, retries=self.retries + retries)
        if isinstance(result, ChatFailure):
            if result.over_budget:
                return replace(usage, over_budget=usage.over_budget + 1)
            return replace(usage, failures=usage.failures + 1)
        if result.cached:
            return replace(
                usage,
                cached=usage.cached + 1,
                cached_prompt_tokens=usage.cached_prompt_tokens + result.prompt_tokens,
                cached_completion_tokens=usage.cached_completion_tokens + result.completion_tokens,
            )
        return replace(
            usage,
            replies=usage.replies + 1,
            prompt_tokens=usage.prompt_tokens + result.prompt_tokens,
            completion_tokens=usage.completion_tokens + result.completion_tokens,
        )
