// The view of figures (a table and plots per dataset), and the view of training curves.

const FIGURE_NAMES = {
  em: "Exact match",
  f1: "F1",
  cover_em: "Cover exact match",
  judged: "Right by the judge",
  golden_recall: "Golden documents found",
  all_golden: "All golden documents found",
  searches_per_question: "Searches per question",
  redundancy: "Redundant documents",
  redundant_searches: "Redundant searches",
  new_golden_searches: "Searches that found new golden documents",
  failed_searches: "Failed searches",
  over_search: "Searched on with all golden documents in hand",
  superfluous_searches: "Searches with all golden documents in hand",
  under_search: "Answered without all golden documents",
  format_rate: "Right format",
  sampled_tokens: "Sampled tokens",
  observed_tokens: "Observed tokens",
  latency_seconds: "Seconds per question",
};
// No share of anything: a bar from 0 to 1 would mislead.
const AMOUNTS = new Set([
  "searches_per_question",
  "superfluous_searches",
  "sampled_tokens",
  "observed_tokens",
  "latency_seconds",
]);
const CURVES = [
  "reward/total",
  "reward/answer",
  "reward/information_gain",
  "rollout/golden_recall",
  "rollout/searches_per_question",
  "rollout/format_rate",
  "policy/kl_to_reference",
  "policy/entropy",
  "value/explained_variance",
];

function drawFigures(view) {
  view.append(about());
  INDEX.datasets.forEach((dataset, at) => {
    const columns = INDEX.columns.filter((column) => column.dataset === at);
    if (columns.length) view.append(datasetFigures(dataset, columns));
  });
}

function about() {
  const runs = INDEX.runs.map((run) => {
    const facts = [
      ["Model", run.model || "not named"],
      ["Corpus", run.corpus],
      ["Results", run.folder],
      ["Seed", run.seed],
      ["Step rewards", rewardLine(run.reward)],
      [
        "Intervals",
        run.has_summary ? "95 %, as the evaluation computed them" : "95 %, from the episodes (no summary here)",
      ],
    ].filter(([, value]) => value !== null && value !== undefined);
    return el(
      "div",
      {},
      el("h3", {}, run.name),
      el(
        "dl",
        {},
        facts.map(([name, value]) => [el("dt", {}, name), el("dd", {}, String(value))]),
      ),
    );
  });
  return el("div", { class: "about" }, runs);
}

function rewardLine(reward) {
  const parts = [
    `${reward.recipe} recipe`,
    `γ_key ${reward.gamma_key}`,
    `repeats from a cosine of ${reward.redundancy_threshold}`,
  ];
  if (reward.step_scale !== 1) parts.push(`scaled by ${reward.step_scale}`);
  for (const term of ["information_gain", "redundancy_penalty", "search_key"])
    if (!reward[term]) parts.push(`${words(term)} not counted`);
  return parts.join(", ");
}

function datasetFigures(dataset, columns) {
  const series = columns.map((column, place) => ({ ...column, name: sourceName(column.source), colour: place % 8 }));
  const counts = [...new Set(columns.map((column) => column.count))];
  const notes = series
    .filter((one) => one.errors)
    .map((one) => `${thousands(one.errors)} of ${one.name} could not be played and count as wrong`);
  const kept = Math.max(
    ...series.map((one) => ROWS.filter((row) => row[SOURCE] === one.source && row[DATASET] === one.dataset).length),
  );
  if (kept < Math.max(...counts)) notes.push(`the first ${thousands(kept)} can be read`);
  const over = [counts.length === 1 ? plural(counts[0], "question") : "", ...notes].filter(Boolean).join("  ·  ");
  const head = el("header", {}, el("h2", {}, dataset), el("p", { class: "quiet" }, over));
  const plots = [hopsPlot(series), kindsPlot(series), recallPlot(series), searchesPlot(series)].filter(Boolean);
  const legend =
    series.length > 1
      ? el(
          "ul",
          { class: "legend" },
          series.map((one) => el("li", { class: `s${one.colour}` }, one.name)),
        )
      : null;
  return el(
    "section",
    { class: "dataset", "aria-label": dataset },
    head,
    figuresTable(series),
    legend,
    el("div", { class: "plots" }, plots),
  );
}

function figuresTable(series) {
  const names = [...new Set([...Object.keys(FIGURE_NAMES), ...series.flatMap((one) => Object.keys(one.figures))])];
  const figures = names
    // Why episodes stopped has rows of its own.
    .filter((name) => !name.startsWith("stop/"))
    .filter((name) => series.some((one) => one.figures[name] && one.figures[name].value !== null))
    .map((name) => figureRow(FIGURE_NAMES[name] || words(name), series, (one) => cell(one, name)));
  const reasons = [...new Set(series.flatMap((one) => Object.keys(one.stops)))];
  const stops = reasons.map((reason) =>
    figureRow(`Stopped: ${words(reason)}`, series, (one) => share(one.stops[reason] || 0, one.count)),
  );
  const head = ["Figure", ...series.map((one) => one.name)].map((name) =>
    el("th", { role: "columnheader", scope: "col" }, name),
  );
  return el(
    "div",
    { class: "scroll" },
    el(
      "table",
      // Roles are named because a table that is laid out as blocks may lose its own.
      { class: `figures${series.length > 1 ? " many" : ""}${series.length > 2 ? " forest" : ""}`, role: "table" },
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, head)),
      el("tbody", { role: "rowgroup" }, figures, stops),
    ),
  );
}

function figureRow(name, series, content) {
  const cells = series.map((one) => el("td", { role: "cell", "data-column": one.name }, content(one)));
  return el("tr", { role: "row" }, el("th", { role: "rowheader", scope: "row" }, name), cells);
}

const share = (count, total) =>
  el(
    "div",
    { class: "cell" },
    el("b", {}, number(count / total)),
    el("span", { class: "quiet" }, `${thousands(count)} of ${thousands(total)}`),
  );

function cell(one, name) {
  const figure = one.figures[name];
  if (!figure || figure.value === null) return el("span", { class: "quiet" }, "not computed");
  const difference = one.difference[name];
  const over = figure.count === null || figure.count === undefined ? "" : `n = ${thousands(figure.count)}`;
  return el(
    "div",
    { class: "cell" },
    el("b", {}, number(figure.value)),
    el("span", { class: "quiet" }, [interval(figure), over].filter(Boolean).join("  ·  ")),
    figure.value >= 0 && figure.value <= 1 && !AMOUNTS.has(name) ? bar(figure, one.colour) : null,
    difference && difference.value !== null
      ? el(
          "span",
          { class: "quiet difference" },
          `${signed(difference.value)}${difference.low === null ? "" : ` (${signed(difference.low)} to ${signed(difference.high)})`} against the model`,
        )
      : null,
  );
}

function bar(figure, colour) {
  const x = (value) => 4 + 92 * value;
  return svg(
    "svg",
    { class: `bar s${colour}`, viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("line", { class: "track", x1: 4, x2: 96, y1: 5, y2: 5 }),
    figure.low === null ? null : svg("line", { class: "range", x1: x(figure.low), x2: x(figure.high), y1: 5, y2: 5 }),
    svg("rect", { class: "dot", x: x(figure.value) - 1.1, width: 2.2, y: 0, height: 10 }),
  );
}

function hopsPlot(series) {
  const hops = [...new Set(series.flatMap((one) => Object.keys(one.by_hops)))].sort((a, b) => a - b);
  const points = series.map((one) => ({ ...one, points: one.by_hops }));
  return hops.length
    ? intervalPlot("Exact match by number of hops", hops, points, { name: (hop) => `${hop} hops` })
    : null;
}

function kindsPlot(series) {
  const kinds = [...new Set(series.flatMap((one) => Object.keys(one.by_kind)))];
  const points = series.map((one) => ({ ...one, points: one.by_kind }));
  return kinds.length ? intervalPlot("Exact match by type of question", kinds, points, { name: words }) : null;
}

function recallPlot(series) {
  const points = series.map((one) => ({
    ...one,
    points: Object.fromEntries(one.recall_by_step.map((cell) => [cell.step, cell])),
  }));
  const steps = [...new Set(points.flatMap((one) => Object.keys(one.points)))].map(Number).sort((a, b) => a - b);
  if (!steps.length) return null;
  return intervalPlot("Golden documents found, by search", steps, points, { joined: true, name: (step) => `${step}` });
}

function searchesPlot(series) {
  const counted = series.map((one) => ({ ...one, counts: one.searches }));
  const most = Math.max(...counted.flatMap((one) => Object.keys(one.counts).map(Number)));
  return sharePlot(
    "Questions by number of searches",
    Array.from({ length: most + 1 }, (_, at) => at),
    counted,
    "searches",
  );
}

function drawTraining(view) {
  const { steps, curves } = data("metrics");
  const names = Object.keys(curves).filter((name) => curves[name].some((value) => value !== null));
  const first = [
    ...names.filter((name) => /^eval\/.*em$/.test(name)),
    ...CURVES.filter((name) => names.includes(name)),
  ];
  const grid = el(
    "div",
    { class: "plots" },
    first.map((name) => curvePlot(name, steps, curves[name])),
  );
  const rest = names.filter((name) => !first.includes(name));
  const pick = el(
    "select",
    { id: "more-curves" },
    el("option", { value: "" }, "add a curve"),
    rest.map((name) => el("option", { value: name }, name)),
  );
  pick.addEventListener("change", () => {
    if (!pick.value) return;
    grid.append(curvePlot(pick.value, steps, curves[pick.value]));
    pick.selectedOptions[0].remove();
    pick.value = "";
  });
  view.append(
    el(
      "div",
      {},
      el("h2", {}, "Training"),
      el(
        "p",
        { class: "quiet" },
        `Steps ${steps[0]} to ${steps[steps.length - 1]}; one run, so there are no intervals.`,
      ),
      grid,
    ),
    el("label", {}, el("span", { class: "label" }, "More of what was logged "), pick),
  );
}
