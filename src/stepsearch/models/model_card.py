"""The model card that stands beside a saved model: a README.md with the hub's metadata, made of what the run knows."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from stepsearch.models.run_record import WARM_START, CorpusUsed, QuestionsUsed, Result, RunRecord
from stepsearch.protocol import INFORMATION, PROMPTS, STOP_TAGS, closing, opening, render_prompt

CARD = "README.md"
TAGS = ("stepsearch", "search-agent", "question-answering", "multi-hop")
FIGURES: Mapping[str, tuple[str, str]] = {"em": ("exact_match", "EM"), "f1": ("f1", "F1")}
DEV = "dev"
# Questions of the project's own generated world, which is on no hub.
GENERATED = "generated"


def model_card(run: RunRecord | None, prompt_style: str, *, has_adapter: bool = False) -> str:
    """Return the card as markdown; what the record does not say is left out.

    Args:
        run: how the model came about; None where it is not known.
        prompt_style: how it is asked.
        has_adapter: an adapter alone lies in the folder `adapter/`.
    """
    sections = [
        f"---\n{_metadata(run).to_yaml()}\n---",
        f"# {_title(run)}",
        _introduction(run),
        _use(prompt_style, has_adapter),
        *([] if run is None else _sections(run)),
        _limitations(run),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _metadata(run: RunRecord | None) -> ModelCardData:
    """Return what the hub reads."""
    measured = [] if run is None else _known(run.results)
    datasets = [] if run is None else sorted({name for used in run.questions for name in used.counts})
    named = [name for name in datasets if name and name != GENERATED]
    return ModelCardData(
        base_model=None if run is None else run.base_model,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=[*TAGS, *(["reinforcement-learning"] if run is not None and run.method != WARM_START else [])],
        datasets=named or None,
        metrics=list(dict.fromkeys(FIGURES[result.figure][0] for result in measured)) or None,
        model_name=_title(run) if measured else None,
        eval_results=[_evaluation(result) for result in measured] or None,
    )


def _known(results: Iterable[Result]) -> list[Result]:
    return [result for result in results if result.figure in FIGURES]


def _evaluation(result: Result) -> EvalResult:
    metric, name = FIGURES[result.figure]
    interval = "" if result.low is None or result.high is None else f", 95 % {result.low:.3f} to {result.high:.3f}"
    return EvalResult(
        task_type="question-answering",
        task_name="Question answering with search",
        dataset_type=result.dataset,
        dataset_name=result.dataset,
        dataset_split=result.split,
        metric_type=metric,
        metric_name=f"{name} ({result.count:,} questions{interval})",
        metric_value=round(result.value, 4),
    )


def _title(run: RunRecord | None) -> str:
    if run is None:
        return "A policy that searches"
    hub_name = None if run.base_model is None else run.base_model.rpartition("/")[2]
    return f"{hub_name or run.base_folder or 'the tiny policy'}, {run.method}"


def _introduction(run: RunRecord | None) -> str:
    what = (
        "A causal language model that answers questions by searching: it thinks, writes a query, reads what was found, "
        "and answers. Made with StepSearch"
    )
    if run is None:
        return f"{what}."
    base = run.base_model or run.base_folder
    start = "" if base is None else f", from {_code(base)}"
    steps = "" if run.step is None or run.total_steps is None else f", after step {run.step} of {run.total_steps}"
    return f"{what} by {run.method}{start}{steps}."


def _use(prompt_style: str, has_adapter: bool) -> str:
    stops = ", ".join(f'"{tag}"' for tag in STOP_TAGS)
    adapter = (
        "\n\nThe weights have the adapter worked in; `adapter/` has it alone, as peft reads it." if has_adapter else ""
    )
    return f"""## Use

With StepSearch, which searches what training searched unless `--knowledge-base` names something else:

```bash
stepsearch inference --model-path MODEL --mode single --question "…"
```

Elsewhere, sample until one of the strings {stops} and keep it; then append what was found after a search, as
`{opening(INFORMATION)}…{closing(INFORMATION)}`, and go on. Nothing was trained to end the sequence after the answer:
without the stop strings the model goes on writing.

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("MODEL")
prompt = {_prompt(prompt_style)}
model = AutoModelForCausalLM.from_pretrained("MODEL")
inputs = tokenizer(prompt, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=256, stop_strings=[{stops}], tokenizer=tokenizer)
```

```python
from vllm import LLM, SamplingParams

sampling = SamplingParams(max_tokens=256, stop=[{stops}], include_stop_str_in_output=True)
output = LLM("MODEL").generate(prompt, sampling)
```{adapter}"""


def _prompt(style: str) -> str:
    """Return the Python expression of the prompt."""
    if style in PROMPTS:
        return repr(render_prompt(style, "…"))
    message = repr(render_prompt("instructions", "…").rstrip())
    asked = f'[{{"role": "user", "content": {message}}}]'
    return f"tokenizer.apply_chat_template({asked}, tokenize=False, add_generation_prompt=True)"


def _sections(run: RunRecord) -> list[str]:
    return [
        _results(run.results),
        _training(run),
        _section("Settings that differ from the defaults", _table(("setting", "value"), _settings(run.settings))),
        _section("Commands", "```bash\n" + "\n".join(run.commands) + "\n```" if run.commands else ""),
        _section("Versions", ", ".join(f"{name} {version}" for name, version in run.versions.items())),
    ]


def _results(results: Sequence[Result]) -> str:
    rows = [
        (
            result.dataset or "questions of no dataset",
            result.split,
            FIGURES[result.figure][1],
            f"{result.value:.3f}",
            "" if result.low is None or result.high is None else f"{result.low:.3f} – {result.high:.3f}",
            f"{result.count:,}",
        )
        for result in _known(results)
    ]
    header = ("dataset", "questions", "figure", "value", "95 % interval", "count")
    corpora = {f"{result.dataset}, {result.split}: {result.corpus}." for result in results if result.corpus}
    return _section("Results", "\n\n".join(filter(None, (_table(header, rows), "\n".join(sorted(corpora))))))


def _training(run: RunRecord) -> str:
    rows = [(used.use, used.file or "", _counts(used)) for used in run.questions]
    lines = [_table(("questions for", "file", "count"), rows), _corpus(run.corpus), f"Seed {run.seed}."]
    return _section("Training", "\n\n".join(filter(None, lines)))


def _counts(used: QuestionsUsed) -> str:
    named = ", ".join(f"{name} {count:,}" for name, count in used.counts.items() if name)
    return f"{used.total:,}" + (f" ({named})" if named else "")


def _corpus(corpus: CorpusUsed | None) -> str:
    if corpus is None:
        return ""
    documents = "1 document" if corpus.top_k == 1 else f"{corpus.top_k} documents"
    line = f"Searched with {_code(corpus.engine)}, {documents} a query"
    if corpus.passages is not None:
        line += f", in a corpus of {corpus.passages:,} passages"
    if corpus.fingerprint is not None:
        line += f" with the fingerprint {_code(corpus.fingerprint)}"
    if corpus.golden_documents and corpus.golden_found is not None:
        share = corpus.golden_found / corpus.golden_documents
        line += (
            f", which has {corpus.golden_found:,} of the {corpus.golden_documents:,} golden documents of the training "
            f"questions ({share:.1%})"
        )
    return f"{line}."


def _settings(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(_code(key), _code(str(value))) for key, value in settings.items()]


def _limitations(run: RunRecord | None) -> str:
    lines = [
        "What it answers rests on what the search finds: figures hold for the corpus and the engine that they were "
        "measured with.",
        "What it finds is taken as it is: a wrong or hostile document can lead to a wrong answer.",
    ]
    if run is not None and any(result.split == DEV for result in run.results):
        lines.append("The dev questions chose this model among those of the run, so their figures flatter it.")
    if run is not None:
        lines.append(f"One run, with one seed ({run.seed}): another one ends elsewhere.")
    if run is not None and any(GENERATED in used.counts for used in run.questions):
        lines.append("It knows the words of a generated world alone, and nothing of the real one.")
    return _section("Limitations", "\n".join(f"- {line}" for line in lines))


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _code(text: str) -> str:
    """Return text as inline code, however many backticks it has; on one line."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{fence}{pad}{' '.join(text.split())}{pad}{fence}"
