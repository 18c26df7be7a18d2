"""Published rows stand beside the same variant only."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from stepsearch.evaluation.baselines_table import baselines_table
from stepsearch.evaluation.published import (
    DATASETS,
    PUBLISHED,
    SEARCH_R1_TABLE,
    STEP_SEARCH_TABLE,
    PublishedResult,
    Variant,
    published_beside,
    published_json,
    variant_of,
)


def test_like_for_like_the_instruct_gain_is_smaller_than_often_copied() -> None:
    rows = {(row.method, row.variant.name): row.scores for row in PUBLISHED if row.source == STEP_SEARCH_TABLE}
    ours, theirs = (rows[method, "Qwen2.5-3B instruct"] for method in ("StepSearch", "Search-R1"))
    assert [round(ours[name][0] - theirs[name][0], 1) for name in ours] == [4.1, 2.7, 5.4, 10.4]


def test_no_f1_lies_below_its_em() -> None:
    for row in PUBLISHED:
        assert all(f1 is None or f1 >= em for em, f1 in row.scores.values()), row


@pytest.mark.parametrize(
    ("model", "variant"),
    [
        ("Qwen/Qwen2.5-3B", Variant("3B", False)),
        ("Qwen/Qwen2.5-7B-Instruct", Variant("7B", True)),
        ("runs/qwen2.5-3b-it-ppo", Variant("3B", True)),
        ("Qwen/Qwen3-4B", None),
        ("runs/tiny/checkpoints/best_model", None),
        ("Qwen2.5-like", None),
    ],
)
def test_the_variant_is_read_from_the_name(model, variant) -> None:
    assert variant_of(model) == variant


def test_rows_of_other_variants_are_left_out() -> None:
    beside = published_beside("Qwen/Qwen2.5-3B")
    assert {row.method for row in beside} == {"Search-R1 (PPO)", "Search-R1", "StepSearch"}
    assert {row.variant.name for row in beside} == {"Qwen2.5-3B base"}
    assert published_beside("Qwen/Qwen2.5-14B") == []
    assert len(published_beside("tiny")) == len(PUBLISHED)


def test_the_documentation_has_the_same_numbers() -> None:
    page = (Path(__file__).parents[3] / "docs" / "baselines.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| (.+?) \| (\dB (?:base|instruct)) \| (.+) \|$", page, re.MULTILINE)
    assert documented == [
        (row.method, row.variant.name.removeprefix("Qwen2.5-"), " | ".join(map(_cell(row), DATASETS)))
        for row in PUBLISHED
    ]


def _cell(row: PublishedResult) -> Callable[[str], str]:
    """Return what writes a row's cell as the page does: EM, and F1 where the source has F1 at all."""

    def cell(dataset: str) -> str:
        em, f1 = row.scores[dataset]
        both = f"{em}/{'–' if f1 is None else f1}"
        return both if row.source == STEP_SEARCH_TABLE else f"{em}"

    return cell


def test_json_names_setting_and_source() -> None:
    record = published_json("Qwen/Qwen2.5-7B")
    assert record["setting"] == "full benchmarks, Wiki-18 corpus, E5 retriever, top-3"
    first = record["results"][0]
    assert (first["model"], first["source"]) == ("Qwen2.5-7B base", SEARCH_R1_TABLE)
    assert first["scores"]["musique"] == [19.6, None]


def test_the_table_sets_measured_beside_published() -> None:
    figures = {"em": {"value": 0.25, "low": 0.1, "high": 0.4, "count": 40}, "f1": {"value": 0.5, "count": 40}}
    fewer = {**figures, "em": {**figures["em"], "count": 39}}
    measured = {"musique": {"model": figures, "direct": fewer}, "other": {"model": figures}}
    worse = {"value": -0.125, "low": -0.3, "high": 0.05, "count": 39}
    table = baselines_table(measured, "Qwen/Qwen2.5-3B", {"musique": {"direct": worse}})
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    lines = [line for line in capture.get().splitlines() if "│" in line]

    assert [line.split("│")[1].strip() for line in lines] == [
        "model",
        "direct",
        "",
        "Qwen2.5-3B base, published (1)",
        "Search-R1 (PPO)",
        "Qwen2.5-3B base, published (2)",
        "Search-R1",
        "StepSearch",
    ]
    assert "25.0 (10.0–40.0) / 50.0 │" in lines[0]
    assert "25.0 (10.0–40.0) / 50.0 of 39 │" in lines[1]
    assert "ΔEM -12.5 (-30.0 – +5.0)" in lines[2]
    assert f"(1) {SEARCH_R1_TABLE}; (2) {STEP_SEARCH_TABLE}" in " ".join(capture.get().split())
    assert "musique (of 40)" in capture.get()
    assert "4.9" in lines[4]
    assert "18.1 / 27.3" in lines[7]
