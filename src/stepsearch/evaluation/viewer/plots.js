// Plots with intervals, drawn at the width they have, and again when it changes.

const PLOT_HEIGHT = 190;
const MARGIN = { left: 38, right: 8, top: 12, bottom: 26 };

// A figure with a title; `draw(width)` returns its svg, `table` what it shows in numbers.
function plot(title, draw, table) {
  const place = el("div");
  const figure = el("figure", { class: "plot" }, el("figcaption", {}, el("h3", {}, title)), place, table);
  let width = 0;
  new ResizeObserver(() => {
    if (place.clientWidth === width || place.clientWidth === 0) return;
    width = place.clientWidth;
    place.replaceChildren(draw(width));
  }).observe(place);
  return figure;
}

function numbersTable(head, rows) {
  return el(
    "details",
    {},
    el("summary", {}, "Numbers"),
    el(
      "div",
      { class: "scroll" },
      el(
        "table",
        {},
        el(
          "thead",
          {},
          el(
            "tr",
            {},
            head.map((name) => el("th", { scope: "col" }, name)),
          ),
        ),
        el(
          "tbody",
          {},
          rows.map(([first, ...rest]) =>
            el(
              "tr",
              {},
              el("th", { scope: "row" }, first),
              rest.map((x) => el("td", {}, x)),
            ),
          ),
        ),
      ),
    ),
  );
}

function niceTicks(low, high) {
  const span = high - low || 1;
  const power = 10 ** Math.floor(Math.log10(span / 4));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => span / size <= 5);
  const ticks = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-6; at += step) ticks.push(at);
  return ticks;
}

const tickLabel = (value) => String(Number(value.toPrecision(3))).replace("-", "−");

function frame(width, low, high, label) {
  const y = (value) =>
    PLOT_HEIGHT - MARGIN.bottom - ((value - low) / (high - low || 1)) * (PLOT_HEIGHT - MARGIN.top - MARGIN.bottom);
  const root = svg("svg", {
    viewBox: `0 0 ${width} ${PLOT_HEIGHT}`,
    height: PLOT_HEIGHT,
    role: "img",
    "aria-label": label,
  });
  for (const tick of niceTicks(low, high)) {
    root.append(
      svg("line", { class: "grid-line", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }),
      svg("text", { class: "axis-text", x: MARGIN.left - 7, y: y(tick) + 4, "text-anchor": "end" }, tickLabel(tick)),
    );
  }
  return { root, y };
}

// Long names would run into each other; the numbers below a plot have them whole.
const shortened = (text, room) =>
  text.length * 6.6 > room ? `${text.slice(0, Math.max(3, Math.floor(room / 6.6) - 1))}…` : text;
const axisLabel = (x, text) =>
  svg("text", { class: "axis-text", x, y: PLOT_HEIGHT - 7, "text-anchor": "middle" }, text);

// Values with whiskers over categories. `series`: [{name, colour, points: {category: {value, low, high, count}}}].
function intervalPlot(title, categories, series, { joined = false, name = (category) => category } = {}) {
  const draw = (width) => {
    const { root, y } = frame(width, 0, 1, title);
    const band = (width - MARGIN.left - MARGIN.right) / categories.length;
    const gap = Math.min(14, (band * 0.7) / series.length);
    categories.forEach((category, at) =>
      root.append(axisLabel(MARGIN.left + band * (at + 0.5), shortened(String(name(category)), band))),
    );
    series.forEach(({ colour, points }, place) => {
      const x = (at) => MARGIN.left + band * (at + 0.5) + (place - (series.length - 1) / 2) * gap;
      const group = svg("g", { class: `s${colour}` });
      const line = [];
      categories.forEach((category, at) => {
        const cell = points[category];
        if (!cell || cell.value === null) return;
        line.push(`${x(at)},${y(cell.value)}`);
        if (cell.low !== null)
          group.append(svg("line", { class: "whisker", x1: x(at), x2: x(at), y1: y(cell.low), y2: y(cell.high) }));
        group.append(svg("circle", { class: "mark", cx: x(at), cy: y(cell.value), r: 4 }));
      });
      if (joined) group.prepend(svg("polyline", { class: "curve", points: line.join(" "), opacity: 0.5 }));
      root.append(group);
    });
    return root;
  };
  const rows = series.flatMap((one) =>
    categories
      .filter((category) => one.points[category])
      .map((category) => {
        const cell = one.points[category];
        return [
          `${series.length > 1 ? `${one.name}, ` : ""}${name(category)}`,
          number(cell.value),
          interval(cell),
          `n = ${cell.count ?? "–"}`,
        ];
      }),
  );
  return plot(title, draw, numbersTable(["", "value", "95 % interval", "over"], rows));
}

// Shares of a whole as bars. `series`: [{name, colour, counts: {category: count}}].
function sharePlot(title, categories, series, axis) {
  const totals = series.map(({ counts }) => Object.values(counts).reduce((sum, count) => sum + count, 0));
  const share = (place, category) => (series[place].counts[category] || 0) / (totals[place] || 1);
  const highest = Math.max(...series.flatMap((_, place) => categories.map((category) => share(place, category))));
  const draw = (width) => {
    const { root, y } = frame(width, 0, Math.min(1, highest * 1.08), title);
    const band = (width - MARGIN.left - MARGIN.right) / categories.length;
    const bar = Math.min(34, (band * 0.8) / series.length);
    categories.forEach((category, at) => root.append(axisLabel(MARGIN.left + band * (at + 0.5), `${category}`)));
    series.forEach(({ colour }, place) => {
      const group = svg("g", { class: `s${colour}` });
      categories.forEach((category, at) => {
        const x = MARGIN.left + band * (at + 0.5) + (place - series.length / 2) * bar;
        const top = y(share(place, category));
        group.append(svg("rect", { class: "mark", x: x + 1, width: bar - 2, y: top, height: y(0) - top }));
      });
      root.append(group);
    });
    return root;
  };
  const rows = categories.map((category) => [
    `${category} ${axis}`,
    ...series.map((one, place) => `${one.counts[category] || 0} (${number(100 * share(place, category), 1)} %)`),
  ]);
  return plot(title, draw, numbersTable(["", ...series.map((one) => one.name)], rows));
}

// One curve over training steps; what the pointer is at is told below it.
function curvePlot(title, steps, values) {
  const known = values.map((value, at) => [steps[at], value]).filter(([, value]) => value !== null);
  const readout = el("p", { class: "quiet" });
  const say = ([step, value]) => readout.replaceChildren(`step ${step}: ${tickLabelLong(value)}`);
  const draw = (width) => {
    const all = known.map(([, value]) => value);
    const [low, high] = [Math.min(0, ...all), Math.max(...all)];
    const [top, bottom] = high === low ? [low + 1, low] : [high, low];
    const { root, y } = frame(width, bottom, top, title);
    const [first, last] = [steps[0], steps[steps.length - 1]];
    const x = (step) =>
      MARGIN.left + 4 + ((step - first) / (last - first || 1)) * (width - MARGIN.left - MARGIN.right - 8);
    const group = svg(
      "g",
      { class: "s0" },
      svg("polyline", { class: "curve", points: known.map(([step, value]) => `${x(step)},${y(value)}`).join(" ") }),
    );
    if (known.length <= 30)
      known.forEach(([step, value]) =>
        group.append(svg("circle", { class: "mark", cx: x(step), cy: y(value), r: 2.6 })),
      );
    root.append(group, axisLabel(x(first), first), axisLabel(x(last) - 8, last));
    root.addEventListener("pointermove", (event) => {
      const at = event.clientX - root.getBoundingClientRect().left;
      say(known.reduce((best, point) => (Math.abs(x(point[0]) - at) < Math.abs(x(best[0]) - at) ? point : best)));
    });
    return root;
  };
  if (known.length) say(known[known.length - 1]);
  return plot(title, draw, readout);
}

const tickLabelLong = (value) => String(Number(value.toPrecision(4))).replace("-", "−");
const interval = (cell) =>
  cell.low === null || cell.low === undefined ? "" : `${number(cell.low)} – ${number(cell.high)}`;
