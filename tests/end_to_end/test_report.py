"""The report in a real browser: opened from disk, clicked through, and fed with documents that want to do harm."""

import os
import shutil
import time
from collections.abc import Generator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from report_episodes import LYON, PARIS, SEINE, make_episode, make_question, prediction, write_lines, write_predictions

from stepsearch.cli.main import main
from stepsearch.rewards import StepSearchRewardCalculator
from stepsearch.types import Passage, StopReason

EPISODES = 2_000
HARM = (
    "</script><script>window.harmed = true</script><!-- <img src=x onerror='window.harmed = true'>"
    "<svg onload=alert(1)> <style>body{display:none}</style> javascript:alert(1) </textarea></title>"
)
EVIL = Passage("evil", HARM, HARM)


def find_chromium() -> str | None:
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def missing(what: str) -> None:
    """Skip without a browser on somebody's laptop; a run that lands changes has to have one."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is not installed")
    pytest.skip(f"{what} is not installed")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 2,000 trajectories on two datasets, another run beside it, a method, and training logs."""
    folder = tmp_path_factory.mktemp("report")
    mine, other = folder / "mine" / "results", folder / "other" / "results"
    wrong = {"answer": "Rhone", "searches": (("Lyon", (LYON,)),)}
    episodes = [
        make_episode(make_question(f"q{n}", hops=2 + n % 3), **(wrong if n % 4 == 0 else {}))
        for n in range(EPISODES - 52)
    ]
    write_predictions(mine, episodes)
    unanswered = make_episode(make_question("spent"), answer=None, stop=StopReason.SEARCHES_SPENT)
    harmful = make_episode(
        make_question("harm", golden=(PARIS, EVIL)),
        searches=((HARM.replace("\n", " "), (EVIL, SEINE)),),
        answer=HARM,
        thought=HARM,
    )
    write_lines(
        mine / "predictions_hotpotqa.jsonl",
        [prediction(make_episode(make_question(f"h{n}"))) for n in range(50)]
        + [prediction(unanswered), prediction(harmful)],
    )
    write_predictions(mine, episodes[:20], "predictions_musique.direct.jsonl")
    write_predictions(other, [make_episode(make_question(f"q{n}")) for n in range(30)])
    write_training_logs(folder / "logs")
    argv = ["report", "--results", mine, "--beside", other, "--training-logs", folder / "logs"]
    assert main([str(part) for part in argv]) == 0
    return mine / "report.html"


def write_training_logs(folder: Path) -> None:
    texts = ["<think>", HARM, "</search>", "\n", "<information>", "<answer>"]
    mask = [1, 1, 1, 0, 0, 1]
    tokens = {
        "texts": texts,
        "token_level_rewards": [0.0, 0.0, 0.25, 0.0, 0.0, 1.0],
        "values": [0.5, 0.75, -0.5, None, None, 1.0],
        "advantages": [1.0, -1.0, 0.5, None, None, 0.0],
    }
    reward = StepSearchRewardCalculator().score(make_episode())
    trajectory = {**make_episode(make_question("logged")).to_json(), "response_mask": mask, "response_ids": mask}
    logged = {
        "step": 4,
        "reward": {**asdict(reward), "total": reward.total},
        "trajectory": trajectory,
        "tokens": tokens,
    }
    write_lines(folder / "trajectories.jsonl", [logged])
    write_lines(
        folder / "metrics.jsonl", [{"step": n, "reward/total": n / 9, "eval/musique/em": n / 10} for n in range(9)]
    )


@pytest.fixture(scope="module")
def browser() -> Generator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("playwright")
    chromium = find_chromium()
    if chromium is None:
        missing("chromium")
    # Chromium refuses to isolate what root runs.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=flags)
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, report: Path) -> Generator[Any]:
    """The report on a desktop; the test fails on any error, dialog, or request for anything but the file."""
    trouble: list[str] = []
    opened = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    opened.set_default_timeout(15_000)
    opened.on("console", lambda message: trouble.append(f"console {message.type}: {message.text}"))
    opened.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    opened.on("dialog", lambda dialog: (trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    opened.on(
        "request", lambda request: None if request.url.startswith(report.as_uri()) else trouble.append(request.url)
    )
    opened.goto(report.as_uri())
    yield opened
    opened.close()
    assert trouble == []


def test_a_mistake_is_one_line_and_leaves_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = write_predictions(tmp_path / "results", [make_episode()])
    (results / "evaluation_summary.json").write_text("{", encoding="utf-8")
    assert main(["report", "--results", str(results)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {results / 'evaluation_summary.json'} cannot be read")
    assert not (results / "report.html").exists()
    questions = tmp_path / "questions.json"
    questions.write_text("[]", encoding="utf-8")
    assert main(["report", "--results", str(results), "--output", str(questions)]) == 2
    assert "name a file that ends in .html" in capsys.readouterr().err
    assert questions.read_text(encoding="utf-8") == "[]"


def open_view(page: Any, name: str) -> None:
    """Follow a link of the menu: the view is drawn when the browser tells of the new address, after the click."""
    page.get_by_role("link", name=name).click()
    page.locator(f"#view-{name.lower()}").wait_for()


def shown(page: Any) -> str:
    return page.locator("#count").inner_text()


def seconds_until(page: Any, count: str) -> float:
    started = time.perf_counter()
    page.locator("#count").get_by_text(count, exact=True).wait_for()
    return time.perf_counter() - started


def test_figures_and_curves_are_drawn(page: Any) -> None:
    musique = page.get_by_role("region", name="musique")
    row = musique.get_by_role("row", name="Exact match").first.inner_text()
    # Three in four of 1,948 questions are right.
    assert "0.750" in row
    assert "n = 1,948" in row
    assert musique.locator("svg[role=img]").count() == 3
    assert musique.locator(".legend li").all_inner_texts() == ["mine", "direct", "other"]
    open_view(page, "Training")
    assert page.locator("#view-training figure").count() == 2
    assert page.locator("#view-training .curve").first.get_attribute("points").count(",") == 9


def test_filters_and_find_over_two_thousand_trajectories(page: Any) -> None:
    open_view(page, "Trajectories")
    assert shown(page) == f"{EPISODES + 51:,} in all"
    # Only what is in sight is in the page.
    assert page.locator(".row").count() < 40
    page.get_by_label("Find").fill("lyon rhone")
    assert seconds_until(page, "492 of 2,051") < 5
    page.locator("#by-source").select_option("mine")
    assert seconds_until(page, "487 of 2,051") < 5
    page.locator("#by-answer").select_option("right")
    page.get_by_text("Nothing fits these filters.").wait_for()
    page.get_by_role("button", name="Clear").click()
    page.locator("#by-answer").select_option("wrong, right in other")
    assert seconds_until(page, "8 of 2,051") < 5
    page.get_by_role("button", name="Clear").click()
    page.locator("#by-stop").select_option("searches spent")
    assert seconds_until(page, "1 of 2,051") < 5
    page.locator("#by-stop").select_option("any reason")
    page.locator("#by-dataset").select_option("hotpotqa")
    page.locator("#by-searches").select_option("1")
    assert seconds_until(page, "1 of 2,051") < 5


def test_keys_move_through_trajectories(page: Any) -> None:
    open_view(page, "Trajectories")
    page.locator("#list").focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowUp"):
        page.keyboard.press(key)
    assert page.locator("#list").get_attribute("aria-activedescendant") == "row-1"
    assert page.locator(".row[aria-selected=true]").get_attribute("aria-posinset") == "2"
    page.keyboard.press("End")
    assert page.locator(".row[aria-selected=true]").get_attribute("aria-posinset") == str(EPISODES + 51)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "find"
    # An address leads to the very trajectory.
    assert page.url.endswith("#episode-2050")


def test_a_trajectory_says_what_each_search_earned(page: Any) -> None:
    open_view(page, "Trajectories")
    page.locator(".row").nth(1).click()
    tags = ", ".join(page.locator(".block > .tag").all_inner_texts())
    assert tags == (
        "Thought, Search 1, Documents of search 1, Thought, Search 2, Documents of search 2, Thought, Answer"
    )
    assert page.locator(".flag.golden").count() == 3
    assert page.get_by_text("again, from search 1").count() == 1
    earned = page.locator(".earned").nth(1).inner_text()
    assert "redundancy −0.500" in earned
    assert "key +0.500" in earned
    page.get_by_text("2 of 2 golden documents found").click()
    assert page.get_by_text("Seine: found by search 2").is_visible()


def test_two_runs_on_the_same_question(page: Any) -> None:
    open_view(page, "Trajectories")
    page.locator("#by-dataset").select_option("musique")
    page.locator(".row").first.click()
    assert page.locator(".episode h3").all_inner_texts() == ["mine", "other"]
    assert page.locator(".episode .verdict").all_inner_texts() == ["✗ wrong", "✓ right"]
    page.get_by_label("Beside it").select_option("direct")
    assert page.locator(".episode h3").all_inner_texts() == ["mine", "direct"]
    page.get_by_label("Beside it").select_option("nothing")
    assert page.locator(".episode").count() == 1


def test_tokens_with_reward_value_and_advantage(page: Any) -> None:
    open_view(page, "Trajectories")
    page.locator("#by-source").select_option("training")
    page.locator(".row").first.click()
    assert page.locator(".token").count() == 6
    assert page.locator(".token.observed").count() == 2
    page.locator(".strip").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert page.locator(".readout").inner_text() == (
        '3 of 6, sampled "</search>": reward 0.250, value −0.500, advantage 0.500'
    )


def test_retrieved_text_does_nothing(page: Any) -> None:
    open_view(page, "Trajectories")
    page.get_by_label("Find").fill("window.harmed")
    seconds_until(page, "1 of 2,051")
    page.locator(".row").first.click()
    assert page.locator("#detail").get_by_text("<script>window.harmed = true</script>").count() > 4
    page.get_by_role("button", name="Clear").click()
    page.locator("#by-source").select_option("training")
    page.locator(".row").first.click()
    assert page.locator(".token").get_by_text("<script>window.harmed = true</script>").count() == 1
    assert page.evaluate("window.harmed") is None
    # The page's own script and style, and the data, which is neither.
    assert page.locator("script:not([type]), style").count() == 2
    assert page.locator("img, iframe, object, [onload], [onerror]").count() == 0


def test_dark_and_light(page: Any) -> None:
    def background() -> str:
        return page.evaluate("getComputedStyle(document.documentElement).backgroundColor")

    light, toggle = background(), page.get_by_role("button", name="Dark")
    toggle.click()
    dark = background()
    assert toggle.get_attribute("aria-pressed") == "true"
    toggle.click()
    assert background() == light != dark
    page.emulate_media(color_scheme="dark")
    page.reload()
    assert background() == dark


def test_on_a_phone(page: Any) -> None:
    def too_wide() -> int:
        return page.evaluate("document.documentElement.scrollWidth - innerWidth")

    page.set_viewport_size({"width": 375, "height": 812})
    assert too_wide() == 0
    open_view(page, "Training")
    assert too_wide() == 0
    open_view(page, "Trajectories")
    assert too_wide() == 0
    page.locator(".row").nth(2).click()
    assert page.locator(".episode").first.is_visible()
    assert not page.locator("#list").is_visible()
    assert too_wide() == 0
    page.get_by_role("button", name="All").click()
    assert page.locator("#list").is_visible()
    page.get_by_label("Find").fill("window.harmed")
    seconds_until(page, "1 of 2,051")
    page.locator(".row").first.click()
    assert too_wide() == 0


def test_every_control_has_a_name(page: Any) -> None:
    open_view(page, "Trajectories")
    page.locator(".row").first.click()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, select, input, a, summary, [role=listbox], [role=img]")]
             .filter((x) => x.checkVisibility())
             .filter((x) => !x.getAttribute("aria-label") && !x.labels?.length && !x.textContent.trim())
             .map((x) => x.outerHTML)"""
    )
    assert nameless == []
