// Every token of a logged training episode with its reward, value and advantage.

// Three bands below each token; the colour's strength is the share of the largest.
function tokenStrip(tokens) {
  const bands = [
    ["reward", tokens.token_level_rewards],
    ["value", tokens.values],
    ["advantage", tokens.advantages],
  ].filter(([, band]) => band);
  const most = bands.map(([, band]) => band.reduce((largest, x) => Math.max(largest, Math.abs(x ?? 0)), 0));
  const readout = el(
    "p",
    { class: "readout", "aria-live": "polite" },
    "Point at a token, or step through them with ← and →.",
  );
  const strip = el("div", {
    class: "strip",
    tabindex: 0,
    role: "group",
    "aria-label": "Tokens with reward, value and advantage",
  });
  const elements = tokens.texts.map((text, at) => {
    const heats = !tokens.mask[at]
      ? []
      : bands.map(([, band], place) => {
          const value = band[at];
          if (!value) return el("span", { class: "heat" });
          const shade = el("i", { class: value > 0 ? "plus" : "minus" });
          shade.style.opacity = String(0.15 + (0.85 * Math.abs(value)) / most[place]);
          return el("span", { class: "heat" }, shade);
        });
    return el(
      "span",
      { class: `token${tokens.mask[at] ? "" : " observed"}`, "data-at": at },
      el("span", { class: "piece" }, text.replaceAll("\n", "⏎") || " "),
      heats,
    );
  });
  let current = -1;
  const point = (at) => {
    if (at < 0 || at >= elements.length) return;
    elements[current]?.classList.remove("at");
    elements[(current = at)].classList.add("at");
    const known = bands.map(([name, band]) => `${name} ${number(band[at])}`);
    readout.replaceChildren(
      `${at + 1} of ${elements.length}, ${tokens.mask[at] ? "sampled" : "observed"} ${JSON.stringify(tokens.texts[at])}: ${known.join(", ")}`,
    );
  };
  strip.addEventListener("pointermove", (event) => {
    const token = event.target.closest(".token");
    if (token) point(Number(token.dataset.at));
  });
  strip.addEventListener("click", (event) => {
    const token = event.target.closest(".token");
    if (token) point(Number(token.dataset.at));
  });
  strip.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (by) {
      event.preventDefault();
      point(current + by);
    }
  });
  strip.append(
    ...elements.flatMap((element, at) =>
      tokens.texts[at].includes("\n") ? [element, el("span", { class: "break" })] : [element],
    ),
  );
  return el(
    "details",
    { class: "tokens", open: true },
    el("summary", {}, "Token by token"),
    el(
      "p",
      { class: "quiet key" },
      `Below each sampled token, from above: ${bands.map(([name], place) => `${name} (${most[place] ? `up to ${number(most[place], 2)}` : "0 everywhere"})`).join(", ")}. Blue is positive, orange negative. Grey text was not sampled.`,
    ),
    readout,
    strip,
  );
}
