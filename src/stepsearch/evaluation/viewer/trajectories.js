// The list of trajectories: which are shown, and which one is read. Only the rows in sight are in the page.

const ROW_HEIGHT = 78;
// For each source the one of the other run with the same method; -1 without one.
const BESIDE = INDEX.sources.map(({ run, method }) =>
  INDEX.sources.findIndex(
    (other) => ![run, other.run].includes("training") && other.run !== run && other.method === method,
  ),
);
const browser = { shown: [], at: -1, haystacks: new Map() };

const byQuestion = new Map();
ROWS.forEach((row, episode) => {
  if (!byQuestion.has(row[QUESTION])) byQuestion.set(row[QUESTION], []);
  byQuestion.get(row[QUESTION]).push(episode);
});

// The episode of another source on the same question; undefined without one.
const partner = (episode, source) =>
  byQuestion.get(ROWS[episode][QUESTION]).find((other) => other !== episode && ROWS[other][SOURCE] === source);
const isRight = (episode) => ROWS[episode][EM] === 1;

const ANSWERS = {
  right: ["right", (episode) => isRight(episode)],
  wrong: ["wrong", (episode) => !isRight(episode)],
  partly: ["wrong, but F1 above 0", (episode) => !isRight(episode) && ROWS[episode][F1] > 0],
};
if (INDEX.runs.length > 1) {
  const differs = (right) => (episode) => {
    if (INDEX.sources[ROWS[episode][SOURCE]].run !== "this") return false;
    const other = partner(episode, BESIDE[ROWS[episode][SOURCE]]);
    return other !== undefined && isRight(episode) === right && isRight(other) !== right;
  };
  ANSWERS.gained = [`right, wrong in ${INDEX.runs[1].name}`, differs(true)];
  ANSWERS.lost = [`wrong, right in ${INDEX.runs[1].name}`, differs(false)];
}

function options(id, all, entries) {
  byId(id).append(el("option", { value: "" }, all), ...entries.map(([value, text]) => el("option", { value }, text)));
}

function setUpTrajectories() {
  const searches = [...new Set(ROWS.map((row) => row[SEARCHES]))].sort((a, b) => a - b);
  options(
    "by-source",
    "all",
    INDEX.sources.map((_, at) => [at, sourceName(at)]),
  );
  options(
    "by-dataset",
    "all",
    INDEX.datasets.map((name, at) => [at, name]),
  );
  options(
    "by-answer",
    "all",
    Object.entries(ANSWERS).map(([key, [text]]) => [key, text]),
  );
  options(
    "by-searches",
    "any number",
    searches.map((count) => [count, String(count)]),
  );
  options(
    "by-stop",
    "any reason",
    INDEX.stops.map((name, at) => [at, words(name)]),
  );
  const form = byId("filters");
  let waiting = 0;
  form.addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(applyFilters, event.target.id === "find" ? 150 : 0);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(applyFilters));
  const list = byId("list");
  list.addEventListener("scroll", drawRows, { passive: true });
  list.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row) read(Number(row.dataset.at), true);
  });
  list.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && browser.at >= 0) read(browser.at, true);
  });
  new ResizeObserver(drawRows).observe(list);
  document.addEventListener("keydown", onKey);
}

function onKey(event) {
  if (byId("view-trajectories").hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape" && event.target.id === "find") byId("list").focus();
    return;
  }
  const page = Math.max(1, Math.floor(byId("list").clientHeight / ROW_HEIGHT) - 1);
  const moves = {
    ArrowDown: 1,
    ArrowUp: -1,
    j: 1,
    k: -1,
    PageDown: page,
    PageUp: -page,
    Home: -Infinity,
    End: Infinity,
  };
  const inList = event.target.closest("#list");
  if (event.key === "/") byId("find").focus();
  else if (event.key === "Escape") showReading(false);
  // Keys that scroll a page keep doing so outside of the list.
  else if (event.key in moves && (inList || !/^(Page|Home|End)/.test(event.key))) move(moves[event.key]);
  else return;
  event.preventDefault();
}

function move(by) {
  if (browser.shown.length) read(Math.min(browser.shown.length - 1, Math.max(0, browser.at + by)), false);
}

// Everything that is said in an episode, but for its documents, in lower case.
function haystack(episode) {
  if (!browser.haystacks.has(episode)) {
    const detail = episodeDetail(episode);
    const question = data("questions")[ROWS[episode][QUESTION]];
    const texts = [
      question.id,
      question.text,
      ...question.answers,
      detail.prediction || "",
      ...detail.blocks.map((block) => block[1]),
      ...detail.steps.map((step) => step.query),
    ];
    browser.haystacks.set(episode, texts.join("\n").toLowerCase());
  }
  return browser.haystacks.get(episode);
}

function finder(text) {
  const sought = text.toLowerCase().split(/\s+/).filter(Boolean);
  const documents = sought.map((word) => {
    const found = new Set();
    data("documents").forEach(([title, body], at) => {
      if (title.toLowerCase().includes(word) || body.toLowerCase().includes(word)) found.add(at);
    });
    return found;
  });
  return (episode) =>
    sought.every(
      (word, at) =>
        haystack(episode).includes(word) ||
        episodeDetail(episode).steps.some((step) => step.documents.some((document) => documents[at].has(document))),
    );
}

function applyFilters() {
  const reading = browser.shown[browser.at];
  const tests = [
    [SOURCE, "by-source"],
    [DATASET, "by-dataset"],
    [SEARCHES, "by-searches"],
    [STOP, "by-stop"],
  ]
    .filter(([, id]) => byId(id).value !== "")
    .map(([column, id]) => {
      const wanted = Number(byId(id).value);
      return (episode) => ROWS[episode][column] === wanted;
    });
  if (byId("by-answer").value) tests.push(ANSWERS[byId("by-answer").value][1]);
  const sought = byId("find").value.trim();
  if (sought) tests.push(finder(sought));
  browser.shown = ROWS.map((_, episode) => episode).filter((episode) => tests.every((test) => test(episode)));
  browser.at = browser.shown.indexOf(reading);
  const count = browser.shown.length;
  byId("count").replaceChildren(
    count === ROWS.length ? `${thousands(count)} in all` : `${thousands(count)} of ${thousands(ROWS.length)}`,
  );
  byId("clear").disabled = !tests.length;
  byId("list").scrollTop = Math.max(0, browser.at - 2) * ROW_HEIGHT;
  drawRows();
  highlight(sought);
}

function drawRows() {
  const list = byId("list");
  const rows = byId("rows");
  rows.style.height = `${browser.shown.length * ROW_HEIGHT}px`;
  const first = Math.max(0, Math.floor(list.scrollTop / ROW_HEIGHT) - 6);
  const last = Math.min(browser.shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW_HEIGHT) + 6);
  const drawn = [];
  for (let at = first; at < last; at += 1) drawn.push(rowElement(at));
  if (!browser.shown.length) drawn.push(el("p", { class: "empty" }, "Nothing fits these filters."));
  rows.replaceChildren(...drawn);
  const chosen = browser.at >= first && browser.at < last ? `row-${browser.at}` : null;
  if (chosen) list.setAttribute("aria-activedescendant", chosen);
  else list.removeAttribute("aria-activedescendant");
}

function rowElement(at) {
  const episode = browser.shown[at];
  const row = ROWS[episode];
  const question = data("questions")[row[QUESTION]];
  const facts = [
    INDEX.datasets.length > 1 ? INDEX.datasets[row[DATASET]] : "",
    question.hops ? `${question.hops} hops` : "",
    plural(row[SEARCHES], "search"),
  ];
  if (INDEX.sources.length > 1) facts.push(sourceName(row[SOURCE]) + (row[STEP] === null ? "" : `, step ${row[STEP]}`));
  const element = el(
    "div",
    {
      class: "row",
      id: `row-${at}`,
      role: "option",
      "data-at": at,
      "aria-selected": at === browser.at ? "true" : "false",
      "aria-posinset": at + 1,
      "aria-setsize": browser.shown.length,
    },
    el("span", { class: "question" }, question.text),
    el("span", { class: "facts" }, verdict(episode), `  ·  ${facts.filter(Boolean).join("  ·  ")}`),
  );
  element.style.top = `${at * ROW_HEIGHT}px`;
  return element;
}

const verdict = (episode) =>
  el("span", { class: `verdict ${isRight(episode) ? "right" : "wrong"}` }, isRight(episode) ? "✓ right" : "✗ wrong");

// Show the trajectory at a place of the list; on a narrow page it takes the list's place when it was `opened`.
function read(at, opened) {
  browser.at = at;
  const list = byId("list");
  const top = at * ROW_HEIGHT;
  if (top < list.scrollTop) list.scrollTop = top;
  else if (top + ROW_HEIGHT > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW_HEIGHT - list.clientHeight;
  drawRows();
  drawDetail(browser.shown[at]);
  if (opened) showReading(true);
}

function showReading(reading) {
  const view = byId("view-trajectories");
  const was = view.classList.contains("reading");
  view.classList.toggle("reading", reading);
  if (reading === was || getComputedStyle(byId("detail")).overflowY === "auto") return;
  scrollTo(0, 0);
  if (reading) byId("detail").focus({ preventScroll: true });
  else {
    drawRows();
    byId("list").focus({ preventScroll: true });
  }
}

// Mark what was sought in the trajectory, without touching its elements.
function highlight(sought) {
  if (!("highlights" in CSS)) return;
  const ranges = [];
  const wanted = sought
    .toLowerCase()
    .split(/\s+/)
    .filter((word) => word.length > 1);
  const texts = document.createTreeWalker(byId("detail"), NodeFilter.SHOW_TEXT);
  while (wanted.length && texts.nextNode()) {
    const text = texts.currentNode.data.toLowerCase();
    if (
      text.length !== texts.currentNode.data.length ||
      texts.currentNode.parentElement.closest("select, button, .tokens")
    )
      continue;
    for (const word of wanted) {
      for (let from = text.indexOf(word); from >= 0; from = text.indexOf(word, from + word.length)) {
        const range = new Range();
        range.setStart(texts.currentNode, from);
        range.setEnd(texts.currentNode, from + word.length);
        ranges.push(range);
      }
    }
  }
  CSS.highlights.set("find", new Highlight(...ranges));
}
