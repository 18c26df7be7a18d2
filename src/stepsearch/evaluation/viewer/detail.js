// One trajectory, or two on the same question: what was thought, searched, found and answered, and what it earned.

const MARKS = {
  think: "Thought",
  search: "Search",
  answer: "Answer",
  environment: "The environment wrote",
  claimed: "The model wrote documents itself",
  text: "Outside of tags",
};
// Which source to read beside; undefined: the other run, where there is one.
let against;

function drawDetail(episode) {
  const others = byQuestion.get(ROWS[episode][QUESTION]).filter((other) => other !== episode);
  const beside = besideOf(episode);
  const detail = byId("detail");
  const two = beside !== undefined;
  detail.replaceChildren(
    controls(episode, others, beside),
    asked(episode),
    el(
      "div",
      { class: `episodes${two ? " two" : ""}` },
      episodeElement(episode, others.length > 0),
      two ? episodeElement(beside, true) : null,
    ),
  );
  detail.scrollTop = 0;
  history.replaceState(null, "", `#episode-${episode}`);
  highlight(byId("find").value.trim());
}

function besideOf(episode) {
  const source = against === undefined ? BESIDE[ROWS[episode][SOURCE]] : against;
  return source === -1 ? undefined : partner(episode, source);
}

function controls(episode, others, beside) {
  const go = (by) => () => {
    move(by);
    byId("detail").focus({ preventScroll: true });
  };
  const sources = [...new Set(others.map((other) => ROWS[other][SOURCE]))];
  const select = el(
    "select",
    { id: "against", "aria-label": "Beside it" },
    el("option", { value: -1 }, "nothing"),
    sources.map((source) => el("option", { value: source }, sourceName(source))),
  );
  select.value = beside === undefined ? "-1" : String(ROWS[beside][SOURCE]);
  select.addEventListener("change", () => {
    against = Number(select.value);
    drawDetail(episode);
    byId("against").focus();
  });
  return el(
    "div",
    { class: "controls" },
    el("button", { type: "button", class: "plain back", onclick: () => showReading(false) }, "← All"),
    el(
      "button",
      {
        type: "button",
        class: "plain",
        onclick: go(-1),
        disabled: browser.at <= 0,
        "aria-label": "Previous trajectory",
        "aria-keyshortcuts": "ArrowUp",
      },
      "↑ Previous",
    ),
    el(
      "button",
      {
        type: "button",
        class: "plain",
        onclick: go(1),
        disabled: browser.at >= browser.shown.length - 1,
        "aria-label": "Next trajectory",
        "aria-keyshortcuts": "ArrowDown",
      },
      "↓ Next",
    ),
    sources.length
      ? el("div", { class: "against" }, el("span", { class: "label", "aria-hidden": "true" }, "Beside it"), select)
      : null,
  );
}

function asked(episode) {
  const row = ROWS[episode];
  const question = data("questions")[row[QUESTION]];
  const facts = [
    INDEX.datasets[row[DATASET]],
    question.hops ? `${question.hops} hops` : "",
    question.kind,
    question.id,
  ];
  const [answer, ...aliases] = question.answers;
  return el(
    "div",
    { class: "asked" },
    el("h2", {}, question.text),
    el("p", { class: "quiet" }, facts.filter(Boolean).join("  ·  ")),
    el(
      "p",
      { class: "answers" },
      el("span", { class: "quiet" }, "Gold answer  "),
      el("b", {}, answer ?? "none"),
      aliases.length ? el("span", { class: "quiet" }, `  or ${aliases.join(", ")}`) : null,
    ),
    needs(question, episodeDetail(episode)),
  );
}

// The hops of the question, each with its golden document and the search that found it.
function needs(question, detail) {
  if (!question.golden.length && !question.parts.length) return null;
  const foundBy = question.golden.map((_, golden) => detail.steps.findIndex((step) => step.golden.includes(golden)));
  const line = (golden) =>
    el(
      "div",
      { class: "quiet" },
      `${data("documents")[question.golden[golden]][0] || "golden document"}: ${foundBy[golden] < 0 ? "not found" : `found by search ${foundBy[golden] + 1}`}`,
    );
  const linked = new Set(question.parts.map((part) => part.golden));
  const parts = question.parts.map((part) =>
    el(
      "li",
      { class: part.golden !== null && foundBy[part.golden] >= 0 ? "found" : "" },
      el("div", {}, part.text, part.answer ? [" → ", el("b", {}, part.answer)] : null),
      part.golden === null ? null : line(part.golden),
      part.queries.length ? el("div", { class: "quiet" }, `Reference queries: ${part.queries.join(" · ")}`) : null,
    ),
  );
  const rest = question.golden.map((_, golden) => golden).filter((golden) => !linked.has(golden));
  const found = foundBy.filter((step) => step >= 0).length;
  return el(
    "details",
    { class: "needs" },
    el(
      "summary",
      {},
      question.golden.length ? `${found} of ${question.golden.length} golden documents found` : "Sub-questions",
    ),
    el(
      "ol",
      {},
      parts,
      rest.map((golden) => el("li", { class: foundBy[golden] >= 0 ? "found" : "" }, line(golden))),
    ),
  );
}

function episodeElement(episode, named) {
  const row = ROWS[episode];
  const detail = episodeDetail(episode);
  const who = sourceName(row[SOURCE]) + (row[STEP] === null ? "" : `, training step ${row[STEP]}`);
  return el(
    "section",
    { class: "episode", "aria-label": who },
    el(
      "header",
      {},
      named ? el("h3", {}, who) : null,
      el(
        "p",
        { class: "given" },
        verdict(episode),
        "  ",
        el("b", {}, detail.prediction ?? "no answer"),
        el("span", { class: "quiet" }, `  ${ending(row, detail)}`),
      ),
    ),
    numbers(row, detail),
    el(
      "div",
      { class: "blocks" },
      detail.blocks.map((block) => blockElement(block, detail, isRight(episode))),
    ),
    detail.tokens ? tokenStrip(detail.tokens) : null,
  );
}

function ending(row, detail) {
  const parts = [`stopped: ${words(INDEX.stops[row[STOP]])}`];
  if (detail.format_error) parts.push(`format: ${words(detail.format_error)}`);
  if (detail.corrections) parts.push(plural(detail.corrections, "correction"));
  return parts.join("  ·  ");
}

function numbers(row, detail) {
  const { total, outcome, search_key } = detail.reward;
  const sum = (name) =>
    detail.steps.length && detail.steps[0][name] !== null
      ? detail.steps.reduce((all, step) => all + step[name], 0)
      : null;
  const facts = [
    ["F1", row[F1]],
    ["Reward", total],
    ["Outcome", outcome],
    ["Key reward", search_key],
    ["Gain", sum("gain")],
    ["Redundancy", sum("penalty")],
    ["Golden recall", detail.golden_recall],
  ];
  const more = Object.entries(detail.more).map(([name, value]) => [
    words(name),
    typeof value === "number" ? number(value) : String(typeof value === "object" ? JSON.stringify(value) : value),
  ]);
  const shown = [
    ...facts.filter(([, value]) => value !== null && value !== undefined).map(([name, value]) => [name, number(value)]),
    ...more,
  ];
  return el(
    "dl",
    { class: "numbers" },
    shown.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))),
  );
}

function blockElement([kind, text, step], detail, right) {
  if (kind === "documents" && step !== undefined) return documents(detail, step);
  const executed = kind === "search" && step !== undefined;
  const tag = executed ? `Search ${step + 1}` : kind === "search" ? "Search, not executed" : MARKS[kind] || kind;
  return el(
    "div",
    { class: `block ${kind}${kind === "answer" && !right ? " wrong-answer" : ""}` },
    el("div", { class: "tag" }, tag),
    el("div", { class: "content" }, executed ? detail.steps[step].query : text),
    executed ? earned(detail.steps[step]) : null,
    // A step that the text has no documents block for shows them here.
    executed && !detail.blocks.some((block) => block[0] === "documents" && block[2] === step)
      ? documents(detail, step)
      : null,
  );
}

function earned(step) {
  const part = (name, value, sign) =>
    value === null
      ? null
      : el(
          "span",
          { class: value === 0 ? "" : value * sign > 0 ? "up" : "down" },
          `${name} `,
          el("b", {}, sign < 0 ? number(-value) : signed(value)),
        );
  const parts = [part("gain", step.gain, 1), part("redundancy", step.penalty, -1), part("key", step.key, 1)];
  if (step.total !== null) parts.push(el("span", {}, "step reward ", el("b", {}, number(step.total))));
  return el("div", { class: "earned" }, parts);
}

function documents(detail, at) {
  const step = detail.steps[at];
  const content = step.failed ? "The search failed." : step.documents.length ? null : "No documents were found.";
  return el(
    "div",
    { class: "block documents" },
    el("div", { class: "tag" }, `Documents of search ${at + 1}`),
    content
      ? el("p", { class: "quiet" }, content)
      : step.documents.map((document, rank) => documentElement(detail, at, rank, document)),
  );
}

function documentElement(detail, at, rank, document) {
  const step = detail.steps[at];
  const [title, body] = data("documents")[document];
  const golden = step.golden[rank];
  const earlier = detail.steps.findIndex((other, index) => index < at && other.documents.includes(document));
  const read = step.read[rank];
  const cut = read === null ? body.length : read;
  const head = [
    el("b", {}, title || `Document ${rank + 1}`),
    golden === null ? null : el("span", { class: "flag golden" }, "★ golden"),
    earlier < 0 ? null : el("span", { class: "flag" }, `again, from search ${earlier + 1}`),
    cut < body.length
      ? el("span", { class: "flag" }, cut ? "cut short for the model" : "not shown to the model")
      : null,
  ];
  return el(
    "div",
    { class: `document${golden === null ? "" : " golden"}` },
    el("div", { class: "head" }, head),
    el(
      "div",
      { class: "body" },
      body.slice(0, cut),
      cut < body.length ? el("span", { class: "unread" }, body.slice(cut)) : null,
    ),
  );
}
