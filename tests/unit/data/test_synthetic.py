"""The generated world: MuSiQue's format, honest questions, disjoint thirds, and the same bytes for the same seed."""

import hashlib
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from stepsearch.config import WorldSettings
from stepsearch.data.musique import read_musique
from stepsearch.data.synthetic import (
    DEV_FILE,
    PASSAGES,
    RELATIONS,
    TEST_FILE,
    TRAIN_FILE,
    build_worlds,
    generate_items,
    write_world,
)
from stepsearch.errors import ConfigError
from stepsearch.protocol import PROMPTS, render_prompt

SMALL = WorldSettings(train_questions=60, dev_questions=30, test_questions=30, scale=0.1)

Records = list[dict[str, Any]]


def read(path: Path) -> Records:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder, SMALL, seed=5)
    return folder


@pytest.fixture(scope="module")
def train(folder: Path) -> Records:
    return read(folder / TRAIN_FILE)


@pytest.fixture(scope="module")
def dev(folder: Path) -> Records:
    return read(folder / DEV_FILE)


@pytest.fixture(scope="module")
def test(folder: Path) -> Records:
    return read(folder / TEST_FILE)


def names_in(records: Records) -> set[str]:
    return {paragraph["title"] for record in records for paragraph in record["paragraphs"]}


def test_records_have_exactly_musiques_keys_and_twenty_paragraphs(train: Records) -> None:
    for record in train:
        assert list(record) == [
            "id", "paragraphs", "question", "question_decomposition", "answer", "answer_aliases", "answerable",
        ]  # fmt: skip
        assert [paragraph["idx"] for paragraph in record["paragraphs"]] == list(range(20))
        assert set(record["paragraphs"][0]) == {"idx", "title", "paragraph_text", "is_supporting"}
        assert set(record["question_decomposition"][0]) == {"id", "question", "answer", "paragraph_support_idx"}
        assert record["answerable"] is True


def test_each_hop_is_answered_by_its_paragraph_and_leads_to_the_next(train: Records) -> None:
    for record in train:
        hops = record["question_decomposition"]
        subject = hops[0]["question"].partition(" >> ")[0]
        assert subject in record["question"]
        for number, hop in enumerate(hops):
            written, _, relation = hop["question"].partition(" >> ")
            assert written == (subject if number == 0 else f"#{number}")
            paragraph = record["paragraphs"][hop["paragraph_support_idx"]]
            assert paragraph["is_supporting"]
            assert paragraph["title"] == subject
            assert hop["answer"] in paragraph["paragraph_text"]
            assert relation in {name for relations in RELATIONS.values() for name in relations}
            subject = hop["answer"]
        assert subject == record["answer"]
        assert sum(paragraph["is_supporting"] for paragraph in record["paragraphs"]) == len(hops)


def test_hop_counts_are_equal_ids_unique_and_no_chain_comes_back(train: Records) -> None:
    counts = [len(record["question_decomposition"]) for record in train]
    assert [counts.count(hops) for hops in (2, 3, 4)] == [20, 20, 20]
    assert {record["id"].partition("__")[0] for record in train} == {"2hop", "3hop1", "4hop1"}
    assert len({record["id"] for record in train}) == 60
    for record in train:
        answers = [hop["answer"] for hop in record["question_decomposition"]]
        start = record["question_decomposition"][0]["question"].partition(" >> ")[0]
        assert len({start, *answers}) == len(answers) + 1


def test_a_question_names_its_start_alone(train: Records, dev: Records, test: Records) -> None:
    for record in (*train, *dev, *test):
        for hop in record["question_decomposition"]:
            assert hop["answer"] not in record["question"]
        assert not re.search(r"\d|hop|\btwo\b|\bthree\b|\bfour\b", record["question"])


def test_a_prompt_is_its_question_and_nothing_else(folder: Path) -> None:
    for question in read_musique(folder / TEST_FILE).questions:
        assert render_prompt("question", question.question) == f"Question: {question.question}\n"
        for style in PROMPTS:
            added = render_prompt(style, question.question).replace(question.question, "")
            assert added == render_prompt(style, "")


def test_an_id_reaches_neither_passage_nor_reference_query(folder: Path) -> None:
    for name in (TRAIN_FILE, DEV_FILE, TEST_FILE):
        benchmark = read_musique(folder / name)
        for passage in benchmark.passages:
            assert not re.search(r"\d|hop", passage.title + passage.text)
        for question in benchmark.questions:
            assert re.match(r"\dhop", question.id)
            for hop in question.sub_questions:
                assert not re.search(r"\d|hop", " ".join(hop.search_queries))


def test_no_two_worlds_share_a_name(train: Records, dev: Records, test: Records) -> None:
    def bases(records: Records) -> set[str]:
        return {re.findall(r"[A-Z][a-z]{5}", name)[-1] for name in names_in(records)}

    splits = (train, dev, test)
    assert [len(bases(records)) for records in splits] == [len(names_in(records)) for records in splits]
    assert len(set().union(*map(bases, splits))) == sum(len(bases(records)) for records in splits)


def test_no_two_worlds_share_a_fact_id(train: Records, dev: Records, test: Records) -> None:
    ids = [
        {hop["id"] for record in records for hop in record["question_decomposition"]} for records in (train, dev, test)
    ]
    assert not ids[0] & ids[1] | ids[0] & ids[2] | ids[1] & ids[2]


def test_every_passage_stands_in_some_question(train: Records, dev: Records, test: Records) -> None:
    for records, world in zip((train, dev, test), build_worlds(SMALL.scale, seed=5), strict=True):
        assert names_in(records) == set(world.passages)


def test_the_world_is_consistent() -> None:
    world, *_ = build_worlds(0.1, seed=0)
    facts = {name: {hop.relation: hop.value for hop in hops} for name, hops in world.facts.items()}
    for person in world.members["person"]:
        assert facts[facts[person]["spouse"]]["spouse"] == person != facts[person]["spouse"]
    for country in world.members["country"]:
        assert facts[facts[country]["capital"]]["country"] == country
    for name, passage in world.passages.items():
        assert passage.startswith(name)
        assert all(value in passage for value in facts[name].values())


def test_each_template_says_every_fact_of_its_kind() -> None:
    for kind, templates in PASSAGES.items():
        for template in templates:
            assert set(re.findall(r"{(\w+)}", template)) == {"name", *RELATIONS[kind]}


def test_same_seed_same_bytes_other_seed_other_world(folder: Path, tmp_path: Path) -> None:
    write_world(tmp_path / "same", SMALL, seed=5)
    write_world(tmp_path / "other", SMALL, seed=6)
    for name in (TRAIN_FILE, DEV_FILE, TEST_FILE):
        assert (tmp_path / "same" / name).read_bytes() == (folder / name).read_bytes()
        assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == [DEV_FILE, TEST_FILE, TRAIN_FILE]


def test_held_out_questions_do_not_depend_on_how_many_are_for_training(
    dev: Records, test: Records, tmp_path: Path
) -> None:
    write_world(tmp_path, SMALL.model_copy(update={"train_questions": 3}), seed=5)
    assert read(tmp_path / DEV_FILE) == dev
    assert read(tmp_path / TEST_FILE) == test


def test_a_seeds_train_and_dev_worlds_are_what_they_were_before_there_was_a_test_world(folder: Path) -> None:
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest()[:16] for name in (TRAIN_FILE, DEV_FILE)]
    assert digests == ["44600c6339da3390", "97eabddbc081f850"]


def test_the_projects_reader_takes_it(folder: Path) -> None:
    benchmark = read_musique(folder / TRAIN_FILE)
    assert len(benchmark.questions) == 60
    first = benchmark.questions[0]
    assert first.hops == 2
    assert (
        first.sub_questions[0].search_queries[0]
        == f"{first.sub_questions[0].subject} {first.sub_questions[0].relation}"
    )
    assert first.sub_questions[1].subject == first.sub_questions[0].answer
    assert len(first.golden_passages) == 2


def test_impossible_sizes_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"world\.scale 100 needs .* lower it"):
        build_worlds(100, seed=0)
    tiny, *_ = build_worlds(0.001, seed=0)
    with pytest.raises(ConfigError, match=r"world\.scale is too small .* 2 hops"):
        list(generate_items(tiny, (2,), 10_000, random.Random(0)))
