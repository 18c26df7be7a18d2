"use strict";
// Elements, data and numbers. Text enters the page by text nodes alone: nothing that it holds is ever read as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== ""));
  return node;
}

const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
const byId = (id) => document.getElementById(id);

// Data elements are parsed when they are first asked for.
const parsed = new Map();
function data(name) {
  if (!parsed.has(name)) parsed.set(name, JSON.parse(byId(name).textContent));
  return parsed.get(name);
}

const INDEX = data("index");
// What a row of the index holds, in this order.
const [SOURCE, DATASET, QUESTION, EM, F1, STOP, SEARCHES, STEP] = [0, 1, 2, 3, 4, 5, 6, 7];
const ROWS = INDEX.rows;

const episodeDetail = (episode) => {
  const start = episode - (episode % INDEX.piece);
  return data(`episodes-${start}`)[episode - start];
};

const number = (value, digits = 3) =>
  value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−");
const signed = (value) => (value > 0 ? "+" : "") + number(value);
const thousands = (value) => value.toLocaleString("en");
const words = (name) => String(name).replaceAll("_", " ");
const plural = (count, noun) => `${thousands(count)} ${noun}${count === 1 ? "" : noun.endsWith("ch") ? "es" : "s"}`;

function sourceName(source) {
  const { name, run, method } = INDEX.sources[source];
  return run === "beside" && method ? `${name} (${INDEX.runs[1].name})` : name;
}
