"""What clients of OpenAI's chat completions send and read, for an agent that searches on its own.

The answer is the message's `content`; what was thought, searched and found before it is `reasoning_content`, as servers
of reasoning models call it. What only an agent has stands under `stepsearch`.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from stepsearch.protocol import ANSWER, blocks
from stepsearch.rollout import EpisodeEvent
from stepsearch.serving.refusal import Refusal
from stepsearch.types import Question, StopReason, Trajectory

COMPLETION, CHUNK = "chat.completion", "chat.completion.chunk"


class TextPart(BaseModel):
    """A part of a message; only text is read."""

    type: str
    text: str = ""


class Message(BaseModel):
    """One message of a conversation."""

    role: str
    content: str | list[TextPart] | None = None

    def text(self) -> str:
        """Return what it says."""
        if isinstance(self.content, list):
            return "\n".join(part.text for part in self.content if part.type == "text")
        return self.content or ""


class StreamOptions(BaseModel):
    """What a streamed answer has besides."""

    include_usage: bool = Field(default=False, description="End with a piece that has no choice but the usage.")


class ChatRequest(BaseModel):
    """What a client sends; other keys are ignored."""

    messages: list[Message] = Field(min_length=1, description="The last one of the user's is the question.")
    model: str | None = Field(default=None, description="The served model's name, or none.")
    stream: bool = Field(default=False, description="Send what happens as it happens.")
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2, description="0 is greedy; default: the server's.")
    seed: int | None = Field(default=None, ge=0, description="Repeats what is sampled; default: a new one.")
    n: Literal[1] = Field(default=1, description="Answers; there is one.")
    return_trajectory: bool = Field(default=False, description="Add the whole episode, exact to the token.")


def question_of(request: ChatRequest, name: str) -> Question:
    """Return what a request asks of the model `name`.

    Raises:
        Refusal: it asks another model, nothing, or what is no whole text.
    """
    if request.model not in (None, name):
        raise Refusal(404, f"there is no model {request.model!r} here: ask {name!r}")
    asked = next((message.text() for message in reversed(request.messages) if message.role == "user"), "").strip()
    if not asked:
        raise Refusal(400, "messages: the last one of role user has no text")
    try:
        asked.encode()
    except UnicodeEncodeError:
        # JSON can escape half a character, at which no tokenizer stays whole.
        raise Refusal(400, "messages: the last one of role user is not UTF-8 text") from None
    return Question(id="", question=asked, answers=())


def reasoning(event: EpisodeEvent) -> str:
    """Return what an event adds to the reasoning that is shown."""
    if event.kind == "documents":
        titles = "; ".join(passage.title or passage.text[:60] for passage in event.passages)
        return f"found: {titles or 'nothing'}\n"
    parts = [(name or "text", content) for name, content in blocks(event.text) if name != ANSWER]
    return "".join(f"{name}: {content}\n" for name, content in parts)


def completion(
    head: Mapping[str, Any], trajectory: Trajectory, reasoning_content: str, with_trajectory: bool
) -> dict[str, Any]:
    """Return the answer to a request that does not stream; `head` has what all its answers share."""
    message = {"role": "assistant", "content": trajectory.answer, "reasoning_content": reasoning_content}
    choice = {"index": 0, "message": message, "finish_reason": finish_reason(trajectory), "logprobs": None}
    said = {"choices": [choice], "usage": _usage(trajectory), "stepsearch": _outcome(trajectory, with_trajectory)}
    return {**head, "object": COMPLETION, **said}


def chunk(head: Mapping[str, Any], **delta: str | None) -> dict[str, Any]:
    """Return a piece of a streamed answer."""
    return {**head, "object": CHUNK, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


def last_chunks(head: Mapping[str, Any], trajectory: Trajectory, request: ChatRequest) -> list[dict[str, Any]]:
    """Return what ends a stream: the answer if there is one, why it ended, and the usage where that is asked for."""
    answer = [] if trajectory.answer is None else [chunk(head, content=trajectory.answer)]
    choice = {"index": 0, "delta": {}, "finish_reason": finish_reason(trajectory)}
    outcome = _outcome(trajectory, request.return_trajectory)
    end = {**head, "object": CHUNK, "choices": [choice], "stepsearch": outcome}
    has_usage = request.stream_options is not None and request.stream_options.include_usage
    usage = [{**head, "object": CHUNK, "choices": [], "usage": _usage(trajectory)}] if has_usage else []
    return [*answer, end, *usage]


def finish_reason(trajectory: Trajectory) -> str:
    """Return OpenAI's word for why an episode ended; `stop_reason` says it exactly."""
    return "length" if trajectory.stop_reason is StopReason.CONTEXT_FULL else "stop"


def _usage(trajectory: Trajectory) -> dict[str, int]:
    """Return tokens; what the policy reads, documents included, is its prompt."""
    sampled = sum(trajectory.response_mask)
    total = len(trajectory.prompt_ids) + len(trajectory.response_ids)
    return {"prompt_tokens": total - sampled, "completion_tokens": sampled, "total_tokens": total}


def _outcome(trajectory: Trajectory, with_trajectory: bool) -> dict[str, Any]:
    """Return what chat completions have no word for."""
    searches = [
        {
            "query": step.query,
            "failed": step.failed,
            "passages": [
                {"id": passage.id, "title": passage.title, "text": passage.text, "score": passage.score}
                for passage in step.passages
            ],
        }
        for step in trajectory.steps
    ]
    outcome: dict[str, Any] = {"stop_reason": trajectory.stop_reason, "searches": searches}
    return {**outcome, "trajectory": trajectory.to_json()} if with_trajectory else outcome


def problem(status: int, detail: str) -> dict[str, Any]:
    """Return the body of an answer that is not 200."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": detail, "type": kind, "param": None, "code": status}}
