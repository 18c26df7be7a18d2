"""A transformers tokenizer as a rollout needs it: prompts, markup, and outside text in which nothing is special."""

import json
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from stepsearch.errors import ModelError
from stepsearch.protocol import PROMPTS, neutralise, render_prompt

CHAT = "chat"
_PLACEHOLDER = "QUESTIONSTANDSHERE"
_ANCHOR = "a"


class ModelTokenizer:
    """Implements `rollout.EpisodeTokenizer` on a transformers tokenizer.

    Args:
        hf: the tokenizer.
        prompt_style: a key of `protocol.PROMPTS`, "chat", or "auto": chat where there is a chat template, else
            instructions.
        eos_ids: ids that end a sequence besides the tokenizer's own (those of the generation config).

    Raises:
        ModelError: the style is unknown, asks for a chat template that isn't there, or nothing ends a sequence.
    """

    def __init__(self, hf: PreTrainedTokenizerBase, prompt_style: str = "auto", eos_ids: Collection[int] = ()) -> None:
        self.hf: Any = hf
        if prompt_style == "auto":
            prompt_style = CHAT if self.hf.chat_template else "instructions"
        if prompt_style not in (*PROMPTS, CHAT):
            raise ModelError(f"model.prompt={prompt_style!r} is none of auto, {', '.join(PROMPTS)}, {CHAT}")
        if prompt_style == CHAT and not self.hf.chat_template:
            raise ModelError("model.prompt=chat, but the tokenizer has no chat template; use instructions")
        self.prompt_style = prompt_style
        self._backend: Tokenizer | None = getattr(self.hf, "backend_tokenizer", None)
        own = () if self.hf.eos_token_id is None else (int(self.hf.eos_token_id),)
        self.eos_ids: frozenset[int] = frozenset((*own, *eos_ids))
        if not self.eos_ids:
            raise ModelError("the tokenizer has no end-of-sequence token, and the generation config names none")

    @property
    def pad_id(self) -> int:
        """The id that fills a batch; an end-of-sequence id where the tokenizer has no padding."""
        return int(self.hf.pad_token_id) if self.hf.pad_token_id is not None else min(self.eos_ids)

    def __len__(self) -> int:
        """Return how many ids the tokenizer knows, added tokens included."""
        return len(self.hf)

    def encode_prompt(self, question: str) -> list[int]:
        """Return the ids of a whole prompt in the model's prompt style."""
        return self.encode_prompts([question])[0]

    def encode_prompts(self, questions: Sequence[str]) -> list[list[int]]:
        """Return the prompt of each question, encoded in one batch."""
        plain = [question for question in questions if not self._names_a_token(question)]
        texts = [self._prompt_text(question) for question in plain]
        encoded = iter(self.hf(texts, add_special_tokens=False)["input_ids"] if texts else ())
        return [
            [*self._start, *(self._spelled_prompt(question) if self._names_a_token(question) else next(encoded))]
            for question in questions
        ]

    def _names_a_token(self, question: str) -> bool:
        return any(token in question for token in self._added_tokens)

    def _spelled_prompt(self, question: str) -> list[int]:
        """Return a prompt whose question holds the text of special tokens, which must not be recognised."""
        before, after = self._prompt_text(_PLACEHOLDER).split(_PLACEHOLDER)
        inside = self.encode_plain([neutralise(question)])[0]
        return [*self.encode_markup(before), *inside, *self.encode_markup(after)]

    def encode_parts(self, parts: Sequence[tuple[str, bool]]) -> list[int]:
        """Return the ids of own and outside text in a row, as of one text; what is special in outside text is spelled.

        Args:
            parts: each a text, and whether it is from outside.
        """
        if not any(outside and self._names_a_token(text) for text, outside in parts):
            return self.encode_markup("".join(text for text, _ in parts))
        encoded = [self.encode_plain([text])[0] if outside else self.encode_markup(text) for text, outside in parts]
        return [index for ids in encoded for index in ids]

    def encode_message(self, parts: Sequence[tuple[str, bool]]) -> list[int]:
        """Return the ids of a prompt of one's own: a user's message where there is a chat template, else a beginning.

        Args:
            parts: as `encode_parts` takes them.
        """
        before, after = self._frame
        return [*self._start, *self.encode_parts([(before, False), *parts, (after, False)])]

    @cached_property
    def _frame(self) -> tuple[str, str]:
        """What the chat template writes before and after a user's message; nothing for a plain prompt."""
        if self.prompt_style != CHAT:
            return "", ""
        before, after = self._chat_text(_PLACEHOLDER).split(_PLACEHOLDER)
        return before, after

    def encode_markup(self, text: str) -> list[int]:
        """Return the ids of text of the environment's own, tags of the grammar included."""
        return self.hf(text, add_special_tokens=False)["input_ids"] if text else []

    def encode_plain(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each outside text; special tokens in it are spelled out, not recognised."""
        if not texts:
            return []
        if self._plain is None:
            encoded = self.hf(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        else:
            encoded = [
                encoding.ids for encoding in self._plain.encode_batch_fast(list(texts), add_special_tokens=False)
            ]
        return [
            ids if self._special_ids.isdisjoint(ids) else self._spell(text)
            for text, ids in zip(texts, encoded, strict=True)
        ]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of ids, special tokens included."""
        if self._backend is None:
            return self.hf.decode(token_ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return self._backend.decode(token_ids, skip_special_tokens=False)

    def retokenised(self, sequences: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return the ids that the text of each sequence is encoded to: others where it was spelled another way."""
        if self._backend is None:
            return [self.encode_markup(self.decode(token_ids)) for token_ids in sequences]
        texts = self._backend.decode_batch([list(token_ids) for token_ids in sequences], skip_special_tokens=False)
        return self.hf(texts, add_special_tokens=False)["input_ids"] if texts else []

    def token_pieces(self) -> list[str]:
        """Return, for each id, the text that it adds after other text."""
        return self._pieces

    @cached_property
    def _pieces(self) -> list[str]:
        anchor = self.encode_markup(_ANCHOR)[-1:]
        start = self.decode(anchor)
        pairs = [[*anchor, index] for index in range(len(self.hf))]
        if self._backend is None:
            texts = [self.decode(pair) for pair in pairs]
        else:
            texts = self._backend.decode_batch(pairs, skip_special_tokens=False)
        return [text.removeprefix(start) for text in texts]

    @cached_property
    def _added_tokens(self) -> list[str]:
        return [str(token) for token in self.hf.get_added_vocab()]

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        # An unknown token stands for a letter that the vocabulary lacks, unless it does other duty as well.
        unknown = {self.hf.unk_token_id} - self.eos_ids
        return frozenset(self.hf.get_added_vocab().values()) - unknown

    @cached_property
    def _plain(self) -> Tokenizer | None:
        """The same tokenizer without its added tokens, so that none of them is found in outside text."""
        if self._backend is None:
            return None
        description = json.loads(self._backend.to_str())
        description["added_tokens"] = []
        description["truncation"] = description["padding"] = None
        description["post_processor"] = None
        return Tokenizer.from_str(json.dumps(description))

    @cached_property
    def _start(self) -> list[int]:
        """The beginning-of-sequence id, where the tokenizer sets one before a text by default."""
        if self.prompt_style == CHAT or self.hf.bos_token_id is None:
            return []
        return [self.hf.bos_token_id] if self.hf(_ANCHOR)["input_ids"][:1] == [self.hf.bos_token_id] else []

    def _prompt_text(self, question: str) -> str:
        if self.prompt_style != CHAT:
            return render_prompt(self.prompt_style, question)
        return self._chat_text(render_prompt("instructions", question).strip())

    def _chat_text(self, message: str) -> str:
        messages = [{"role": "user", "content": message}]
        return self.hf.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def _spell(self, text: str) -> list[int]:
        """Return the ids of a text whose vocabulary itself would merge it into an added token: letter by letter."""
        encoded = self._encode_letters(text)
        return [index for ids in encoded for index in ids if index not in self._special_ids]

    def _encode_letters(self, text: str) -> list[list[int]]:
        if self._plain is None:
            return self.hf(list(text), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [encoding.ids for encoding in self._plain.encode_batch_fast(list(text), add_special_tokens=False)]
