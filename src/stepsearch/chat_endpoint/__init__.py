"""Chat models behind any OpenAI-compatible endpoint: concurrent, retried, cached on disk, within a budget."""

from stepsearch.chat_endpoint.endpoint import ChatEndpoint, EndpointSettings, resolved_base_url
from stepsearch.chat_endpoint.messages import ChatFailure, ChatMessage, ChatReply, ChatRequest, request_key
from stepsearch.chat_endpoint.reply_cache import ReplyCache
from stepsearch.chat_endpoint.spending import KNOWN_PRICES, Budget, ChatUsage, Prices
from stepsearch.chat_endpoint.structured import Gap, GapKind, ask_structured

__all__ = [
    "KNOWN_PRICES",
    "Budget",
    "ChatEndpoint",
    "ChatFailure",
    "ChatMessage",
    "ChatReply",
    "ChatRequest",
    "ChatUsage",
    "EndpointSettings",
    "Gap",
    "GapKind",
    "Prices",
    "ReplyCache",
    "ask_structured",
    "request_key",
    "resolved_base_url",
]
