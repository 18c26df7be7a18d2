// Views, theme, and the address: #figures, #training, #trajectories, #episode-12.

const drawers = { figures: drawFigures, training: drawTraining };

function show(name) {
  for (const view of ["figures", "training", "trajectories"]) byId(`view-${view}`).hidden = view !== name;
  for (const link of byId("views").children) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (drawers[name]) {
    drawers[name](byId(`view-${name}`));
    delete drawers[name];
  }
  if (name === "trajectories" && browser.at < 0 && browser.shown.length) read(0, false);
  drawRows();
}

function route() {
  const episode = /^#episode-(\d+)$/.exec(location.hash);
  if (episode) {
    const at = browser.shown.indexOf(Number(episode[1]));
    show("trajectories");
    if (at >= 0 && at !== browser.at) read(at, true);
    return;
  }
  const name = location.hash.slice(1);
  show(["training", "trajectories"].includes(name) && !(name === "training" && !data("metrics")) ? name : "figures");
}

function setUpTheme() {
  const button = byId("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () =>
    document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : system.matches;
  const tell = () => {
    button.setAttribute("aria-pressed", String(isDark()));
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    tell();
  });
  system.addEventListener("change", tell);
  tell();
}

byId("title").append(INDEX.title);
if (!data("metrics")) for (const link of [...byId("views").children]) if (link.hash === "#training") link.remove();
setUpTheme();
setUpTrajectories();
applyFilters();
addEventListener("hashchange", route);
route();
