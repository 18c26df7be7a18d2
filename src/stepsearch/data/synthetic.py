"""A generated multi-hop world in MuSiQue's own file format: made-up films, books, people, companies, cities, countries.

Every entity has one passage that states its facts, and a question walks two to four of them. Names are made of
syllables, and no entity of the train, the dev or the test world occurs in another: only searching and copying from what
was found can answer a dev or a test question.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stepsearch.config import WorldSettings
from stepsearch.data.musique import DEV_FILE, TEST_FILE, TRAIN_FILE
from stepsearch.data.record_files import write_json_lines
from stepsearch.errors import ConfigError

SYLLABLES = tuple(first + vowel + last for first in "bdfgklmnrstv" for vowel in "aeiou" for last in "lnrm")
# fmt: off
FIRST_NAMES = (
    "Adam", "Bela", "Carla", "Dario", "Elena", "Felix", "Greta", "Hugo", "Irena", "Jonas", "Kira", "Luca",
    "Mara", "Nils", "Olga", "Pavel", "Quinn", "Rosa", "Sven", "Tilda", "Ulrik", "Vera", "Wanda", "Xenia",
    "Yuri", "Zora", "Anton", "Berta", "Cyril", "Dora", "Emil", "Frida", "Gustav", "Hanna", "Igor", "Julia",
    "Karl", "Lena", "Milan", "Nora", "Oskar", "Petra", "Rudi", "Selma", "Tomas", "Ursa", "Viktor", "Wilma",
    "Yara", "Zeno",
)
# fmt: on
COMPANY_ENDINGS = ("Works", "Group", "Media", "Labs")

RELATIONS = {
    "film": {"director": "person", "star": "person", "producer": "company"},
    "book": {"author": "person", "publisher": "company"},
    "person": {"birthplace": "city", "spouse": "person", "employer": "company"},
    "company": {"founder": "person", "headquarters": "city"},
    "city": {"country": "country", "mayor": "person"},
    "country": {"capital": "city", "president": "person"},
}
# The cue stands before its value ("directed by X"), so that a reader going left to right knows what X will be.
PASSAGES = {
    "film": (
        "{name} is a film directed by {director}, starring {star} and produced by {producer}.",
        "{name} is a film produced by {producer} and directed by {director}. It was made starring {star}.",
    ),
    "book": (
        "{name} is a novel written by {author} and published by {publisher}.",
        "{name} is a novel published by {publisher}. It was written by {author}.",
    ),
    "person": (
        "{name} was born in {birthplace}, works for {employer} and is married to {spouse}.",
        "{name} is married to {spouse}. {name} was born in {birthplace} and works for {employer}.",
    ),
    "company": (
        "{name} is a company founded by {founder} and based in {headquarters}.",
        "{name} is a company based in {headquarters}. It was founded by {founder}.",
    ),
    "city": (
        "{name} is a city located in {country}, whose mayor is {mayor}.",
        "{name} is a city whose mayor is {mayor}. It is located in {country}.",
    ),
    "country": (
        "{name} is a nation whose capital is {capital} and whose president is {president}.",
        "{name} is a nation whose president is {president}. The capital is {capital}.",
    ),
}
PHRASES = {
    "director": ("the director of {}", "the person who directed {}"),
    "star": ("the star of {}", "the lead actor of {}"),
    "producer": ("the producer of {}", "the company that produced {}"),
    "author": ("the author of {}", "the person who wrote {}"),
    "publisher": ("the publisher of {}", "the company that published {}"),
    "birthplace": ("the birthplace of {}", "the city of birth of {}"),
    "spouse": ("the spouse of {}", "the person married to {}"),
    "employer": ("the employer of {}", "the company that employs {}"),
    "founder": ("the founder of {}", "the person who founded {}"),
    "headquarters": ("the headquarters of {}", "the city that hosts the headquarters of {}"),
    "country": ("the country of {}", "the country that contains {}"),
    "mayor": ("the mayor of {}", "the person who is mayor of {}"),
    "capital": ("the capital of {}", "the capital city of {}"),
    "president": ("the president of {}", "the person who leads {}"),
}
QUESTIONS = {
    "person": ("Who is {}?",),
    "company": ("Which company is {}?", "What is {}?"),
    "city": ("Where is {}?", "What is {}?"),
    "country": ("What is {}?", "Which country is {}?"),
}

_SIZES = {"film": 300, "book": 300, "person": 900, "company": 300, "city": 300, "country": 80}
_HELD_OUT_SHARE = 0.4
_PARAGRAPHS = 20
_CHAIN_TRIES = 2000


@dataclass(frozen=True, slots=True)
class Hop:
    """One fact: the `relation` of `subject` is `value`. `id` numbers the facts of all worlds."""

    id: int
    subject: str
    relation: str
    value: str


@dataclass(frozen=True, slots=True)
class World:
    """Entities by kind, what is true of each, and the passage that says so."""

    members: dict[str, list[str]]
    kinds: dict[str, str]
    facts: dict[str, list[Hop]]
    passages: dict[str, str]


def write_world(folder: Path, settings: WorldSettings, seed: int) -> None:
    """Write MuSiQue's train, dev and test files of a world: three worlds in truth, which share no entity.

    Every passage stands among the paragraphs of some question, where there are enough questions to hold them all
    (one for 16 passages). The same settings and seed give the same bytes.

    Raises:
        ConfigError: `world.scale` is too large for the names there are, or too small for so many different questions.
    """
    worlds = build_worlds(settings.scale, seed)
    counts = (settings.train_questions, settings.dev_questions, settings.test_questions)
    folder.mkdir(parents=True, exist_ok=True)
    for world, count, name in zip(worlds, counts, (TRAIN_FILE, DEV_FILE, TEST_FILE), strict=True):
        rng = random.Random(f"{seed} {name}")
        write_json_lines(folder / name, generate_items(world, settings.hops, count, rng))


def build_worlds(scale: float, seed: int) -> tuple[World, World, World]:
    """Return the train world, the dev world and the test world.

    Raises:
        ConfigError: there are not enough names for worlds of this scale.
    """
    rng = random.Random(f"{seed} worlds")
    train_sizes, held_out_sizes = _sizes(scale), _sizes(scale * _HELD_OUT_SHARE)
    train_count, held_out_count = sum(train_sizes.values()), sum(held_out_sizes.values())
    total, names = train_count + 2 * held_out_count, len(SYLLABLES) ** 2
    if total > names:
        raise ConfigError(f"world.scale {scale:g} needs {total} names and there are {names}: lower it")
    numbers = rng.sample(range(names), train_count + held_out_count)
    bases = map(_base_name, numbers)
    train = _build_world(train_sizes, bases, 0, rng)
    dev = _build_world(held_out_sizes, bases, _count_facts(train), rng)
    # Drawn from a stream of its own: a seed's train and dev worlds do not depend on there being a test world.
    test_rng = random.Random(f"{seed} test world")
    test_numbers = test_rng.sample(sorted(set(range(names)).difference(numbers)), held_out_count)
    first_id = _count_facts(train) + _count_facts(dev)
    return train, dev, _build_world(held_out_sizes, map(_base_name, test_numbers), first_id, test_rng)


def _count_facts(world: World) -> int:
    return sum(len(facts) for facts in world.facts.values())


def generate_items(world: World, hops: Sequence[int], count: int, rng: random.Random) -> Iterator[dict[str, Any]]:
    """Yield `count` different questions as MuSiQue records; any stretch of them has the hop counts in equal shares.

    Raises:
        ConfigError: the world has not so many different questions.
    """
    seen: set[tuple[int, ...]] = set()
    distractors = _deal(list(world.passages), rng)
    for number in range(count):
        chain = _new_chain(world, hops[number % len(hops)], seen, rng)
        yield _item(world, chain, distractors, rng)


def sample_texts() -> list[str]:
    """Return every template of the world with a placeholder for each name, and the endings of names."""
    templates = [text for group in (PASSAGES, QUESTIONS) for texts in group.values() for text in texts]
    phrases = [f" {text}" for texts in PHRASES.values() for text in texts]
    return [*templates, *phrases, *(f" {word}" for word in (*PHRASES, *COMPANY_ENDINGS, *FIRST_NAMES))]


def _sizes(scale: float) -> dict[str, int]:
    """Return how many entities of each kind there are: even, so that all can marry; in all more than paragraphs."""
    return {kind: max(4, 2 * round(size * scale / 2)) for kind, size in _SIZES.items()}


def _base_name(number: int) -> str:
    first, second = divmod(number, len(SYLLABLES))
    return (SYLLABLES[first] + SYLLABLES[second]).capitalize()


def _build_world(sizes: dict[str, int], bases: Iterator[str], first_id: int, rng: random.Random) -> World:
    members = {kind: [_full_name(kind, next(bases), rng) for _ in range(size)] for kind, size in sizes.items()}
    values = {name: _values(kind, members, rng) for kind, names in members.items() for name in names}
    _marry(members["person"], values, rng)
    _seat_capitals(members["country"], members["city"], values, rng)
    facts: dict[str, list[Hop]] = {}
    for name, relations in values.items():
        facts[name] = [
            Hop(first_id + i, name, relation, value) for i, (relation, value) in enumerate(relations.items())
        ]
        first_id += len(relations)
    kinds = {name: kind for kind, names in members.items() for name in names}
    passages = {name: _passage(kind, name, values[name], rng) for name, kind in kinds.items()}
    return World(members, kinds, facts, passages)


def _full_name(kind: str, base: str, rng: random.Random) -> str:
    if kind == "person":
        return f"{rng.choice(FIRST_NAMES)} {base}"
    return f"{base} {rng.choice(COMPANY_ENDINGS)}" if kind == "company" else base


def _values(kind: str, members: dict[str, list[str]], rng: random.Random) -> dict[str, str]:
    return {relation: rng.choice(members[target]) for relation, target in RELATIONS[kind].items()}


def _marry(people: Sequence[str], values: dict[str, dict[str, str]], rng: random.Random) -> None:
    """Make marriage mutual."""
    order = rng.sample(people, len(people))
    for one, other in zip(order[::2], order[1::2], strict=True):
        values[one]["spouse"], values[other]["spouse"] = other, one


def _seat_capitals(
    countries: Sequence[str], cities: Sequence[str], values: dict[str, dict[str, str]], rng: random.Random
) -> None:
    """Put each capital into its country."""
    for country, city in zip(countries, rng.sample(cities, len(countries)), strict=True):
        values[country]["capital"], values[city]["country"] = city, country


def _passage(kind: str, name: str, values: dict[str, str], rng: random.Random) -> str:
    return rng.choice(PASSAGES[kind]).format(name=name, **values)


def _new_chain(world: World, hops: int, seen: set[tuple[int, ...]], rng: random.Random) -> list[Hop]:
    kinds = list(world.members)
    for _ in range(_CHAIN_TRIES):
        chain = _walk(world, rng.choice(world.members[rng.choice(kinds)]), hops, rng)
        key = tuple(hop.id for hop in chain)
        if len(chain) == hops and key not in seen:
            seen.add(key)
            return chain
    raise ConfigError(
        f"world.scale is too small for so many different questions of {hops} hops: raise it or ask for fewer"
    )


def _walk(world: World, start: str, hops: int, rng: random.Random) -> list[Hop]:
    """Return a chain of at most `hops` facts that never comes back to an entity."""
    chain: list[Hop] = []
    visited = {start}
    for _ in range(hops):
        hop = rng.choice(world.facts[chain[-1].value if chain else start])
        if hop.value in visited:
            break
        visited.add(hop.value)
        chain.append(hop)
    return chain


def _deal(names: list[str], rng: random.Random) -> Iterator[str]:
    """Yield names for ever, each once before any comes again, so that all of them turn up soon."""
    while True:
        rng.shuffle(names)
        yield from names


def _item(world: World, chain: Sequence[Hop], distractors: Iterator[str], rng: random.Random) -> dict[str, Any]:
    supporting = [hop.subject for hop in chain]
    shown = dict.fromkeys(supporting)
    for _ in range(_PARAGRAPHS - len(supporting)):
        shown[next(name for name in distractors if name not in shown)] = None
    order = rng.sample(list(shown), len(shown))
    return {
        "id": f"{_hop_name(len(chain))}__{'_'.join(str(hop.id) for hop in chain)}",
        "paragraphs": [
            {"idx": i, "title": name, "paragraph_text": world.passages[name], "is_supporting": name in supporting}
            for i, name in enumerate(order)
        ],
        "question": _question_text(world, chain, rng),
        "question_decomposition": [
            {
                "id": hop.id,
                "question": f"{f'#{i}' if i else hop.subject} >> {hop.relation}",
                "answer": hop.value,
                "paragraph_support_idx": order.index(hop.subject),
            }
            for i, hop in enumerate(chain)
        ],
        "answer": chain[-1].value,
        "answer_aliases": [],
        "answerable": True,
    }


def _hop_name(hops: int) -> str:
    """Return MuSiQue's name of a linear chain: it numbers the shapes from 3 hops on."""
    return f"{hops}hop" if hops < 3 else f"{hops}hop1"


def _question_text(world: World, chain: Sequence[Hop], rng: random.Random) -> str:
    phrase = chain[0].subject
    for hop in chain:
        phrase = rng.choice(PHRASES[hop.relation]).format(phrase)
    return rng.choice(QUESTIONS[world.kinds[chain[-1].value]]).format(phrase)
