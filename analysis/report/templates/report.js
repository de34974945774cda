"use strict";
// Everything here is a convenience: without this script the page stands complete in its written order.

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// The page names no address, not even that of a namespace.
const SVG = Object.assign(document.createElement("template"), { innerHTML: "<svg></svg>" }).content.firstChild.namespaceURI;

function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A column as the report packs it: runs of whole numbers, texts by place, or numbers as they are.
function unpack(column) {
  if (Array.isArray(column)) return column;
  if (column.texts) return unpack(column.at).map((place) => column.texts[place]);
  const values = [];
  for (let at = 0; at < column.runs.length; at += 3)
    for (let place = 0; place < column.runs[at + 2]; place++) values.push(column.runs[at] + column.runs[at + 1] * place);
  return values;
}

// Four significant digits, a true minus sign, and a dash for what does not exist.
function shown(value) {
  if (value === null || value === undefined || value === "") return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en").replace("-", "−");
  const size = Math.abs(value);
  const text = size >= 1e6 || size < 1e-4 ? value.toExponential(3) : String(Number(value.toPrecision(4)));
  return text.replaceAll("-", "−");
}

// ---- tables ----

const POWERS = { P: 1e15, T: 1e12, G: 1e9, M: 1e6, k: 1e3 };
const RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹";

// The number that a cell begins with, as the report writes numbers; NaN for words.
function leading(text) {
  const plain = text.trim().replaceAll("−", "-").replaceAll("\u202f", " ");
  const found = plain.match(/^([+-]?[\d,]*\.?\d+)(?: × 10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)| ([PTGMk])(?![a-z])|k(?![a-z]))?/);
  if (!found) return NaN;
  let value = Number(found[1].replaceAll(",", ""));
  if (found[2]) value *= 10 ** Number([...found[2]].map((digit) => (digit === "⁻" ? "-" : RAISED.indexOf(digit))).join(""));
  if (found[3]) value *= POWERS[found[3]];
  return value;
}

function sortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const written = [...body.rows];
  heads.forEach((head, place) => {
    const button = make("button", { type: "button", class: "sort" });
    const name = head.textContent.replace(/\s+/g, " ").trim() || `column ${place + 1}`;
    button.setAttribute("aria-label", `Sort by ${name}`);
    head.append(" ", button);
    button.addEventListener("click", () => {
      const next = { ascending: "descending", descending: "" }[head.getAttribute("aria-sort") ?? "none"] ?? "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (!next) {
        body.append(...written);
        return;
      }
      head.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      // Headings of groups say nothing once rows of several groups are mixed: they wait at the end, unseen.
      const keyed = written.filter((row) => row.className !== "group").map((row) => {
        const cell = row.cells[place];
        const text = (cell?.dataset.sort ?? cell?.firstChild?.textContent ?? "").trim();
        return { row, text: text === "–" ? "" : text, number: leading(text) };
      });
      keyed.sort((one, two) => {
        if (one.text === "" || two.text === "") return (one.text === "") - (two.text === "");
        if (!isNaN(one.number) && !isNaN(two.number)) return sign * (one.number - two.number);
        return sign * one.text.localeCompare(two.text, "en", { numeric: true });
      });
      body.append(...keyed.map((entry) => entry.row), ...written.filter((row) => row.className === "group"));
    });
  });
}

function filterable(table) {
  const rows = [...table.tBodies[0].rows];
  const count = rows.filter((row) => row.className !== "group").length;
  if (count <= 12) return;
  const box = make("input", { type: "search", autocomplete: "off", spellcheck: "false" });
  const told = make("output", { class: "meta" });
  const tools = make("p", { class: "tools" }, make("label", {}, "Filter rows ", box), " ", told);
  table.parentElement.before(tools);
  box.addEventListener("input", () => {
    const wanted = box.value.trim().toLowerCase();
    let kept = 0;
    let group = null;
    for (const row of rows) {
      if (row.className === "group") {
        group = row;
        group.hidden = wanted !== "";
        continue;
      }
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      if (!row.hidden) kept += 1;
      if (!row.hidden && group) group.hidden = false;
    }
    told.textContent = wanted ? `${kept} of ${count} rows` : "";
  });
}

for (const table of document.querySelectorAll("main table")) {
  if (table.tHead && table.tBodies[0].rows.length > 2) {
    filterable(table);
    sortable(table);
  }
}

// A link into a folded part unfolds it, and chooses the model that it is of.
function unfold() {
  const { place } = address();
  const target = place && document.getElementById(place);
  if (!target) return;
  const of = target.closest(".of-model");
  if (of?.hidden) choose({ model: of.dataset.model }, false);
  for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  const inside = target.matches(".more-figure, .panel") ? target : null;
  if (inside) inside.open = true;
  target.scrollIntoView();
}

// Paper cannot unfold anything: it gets every figure, and of the rest what a reader left open.
const folded = new Set();
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll(".more-figure:not([open])")) {
    folded.add(part);
    part.open = true;
  }
});
addEventListener("afterprint", () => {
  for (const part of folded) part.open = false;
  folded.clear();
});
