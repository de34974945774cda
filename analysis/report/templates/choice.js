// ---- what a reader looks at: a model, a layer, a head, chosen once for the whole page and kept in its address ----

function metricRows(columns, layer) {
  const rows = rowsOf(columns, layer);
  const span = (low, high) => (typeof low === "number" && typeof high === "number" ? `${shown(low)} to ${shown(high)}` : "–");
  return rows.map((row) => {
    const target = document.getElementById(`def-${row.metric}`);
    const name = target ? make("a", { class: "term", href: `#def-${row.metric}` }, row.metric) : row.metric;
    const cells = [shown(row.value), row.unit, span(row.ci_low, row.ci_high), shown(row.n), shown(row.difference), span(row.difference_low, row.difference_high)];
    return make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell, place) => make("td", place === 1 ? { class: "text" } : {}, cell)));
  });
}

function excerpted(columns, layer) {
  const rows = rowsOf(columns, layer);
  if (!rows.length) return [];
  const first = rows[0];
  const about = `Layer ${layer}, sample ${first.sample}, query at position ${first.query} (outlined); selected keys are underlined, in a stronger colour with more attention. The selection holds ${shown(100 * first.recall)} % of the attention.`;
  const text = make("p", { class: "text" });
  let before = -1;
  for (const row of rows) {
    if (row.position > before + 1) text.append(make("span", { class: "gap" }, " […] "));
    before = row.position;
    const token = make("bdi", {}, row.token);
    const kinds = [row.weight >= 0 ? `level-${Math.ceil(4 * Math.min(row.weight, 1))}` : "", row.position === row.query ? "query" : ""].filter(Boolean);
    text.append(kinds.length ? make("mark", { class: kinds.join(" ") }, token) : token);
  }
  return [make("div", { class: "passage", role: "group", "aria-label": "Tokens that the selection holds", tabindex: "0" }, make("p", { class: "meta" }, about), text)];
}

const unpackAll = (columns) => Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, unpack(column)]));

// The address holds a place and the choice: #misses&model=light&layer=3&head=1.
function address() {
  const [place, ...rest] = location.hash.slice(1).split("&");
  return { place: decodeURIComponent(place), given: new URLSearchParams(rest.join("&")) };
}

const chosen = { model: "", layer: 0, head: 0 };
let models = [];
let explorers = {};
const controls = {};

const current = () => explorers[chosen.model];

function options(select, values, names = values) {
  select.replaceChildren(...values.map((value, at) => make("option", { value }, String(names[at]))));
}

function remember() {
  const place = document.querySelector("nav [aria-current]")?.getAttribute("href").slice(1) ?? "overview";
  const parts = [];
  if (models.length > 1) parts.push(["model", models.find((one) => one.id === chosen.model).name]);
  if (current()?.layers.length > 1) parts.push(["layer", chosen.layer]);
  if (current()?.heads) parts.push(["head", chosen.head]);
  history.replaceState(null, "", `#${place}&${new URLSearchParams(parts)}`);
}

function choose(change, keep = true) {
  Object.assign(chosen, change);
  const own = current();
  if (own) {
    if (!own.layers.includes(chosen.layer)) chosen.layer = own.layers[0] ?? 0;
    chosen.head = Math.min(chosen.head, Math.max(own.heads - 1, 0));
    options(controls.layer, own.layers);
    options(controls.head, Array.from({ length: own.heads }, (_, at) => at));
    controls.layer.value = chosen.layer;
    controls.head.value = chosen.head;
  }
  controls.model.value = chosen.model;
  controls.layered.hidden = !own || own.layers.length < 2;
  controls.headed.hidden = !own?.heads;
  for (const part of document.querySelectorAll(".of-model")) part.hidden = part.dataset.model !== chosen.model;
  document.querySelectorAll(".explorer").forEach(look);
  layerNumbers();
  if (keep) remember();
}

const called = () => `${models.find((one) => one.id === chosen.model).name}${current()?.layers.length > 1 ? `, layer ${chosen.layer}` : ""}`;

// The charts of a chapter, drawn when they are unfolded and again when the choice changes.
function look(root) {
  const chapter = root.dataset.chapter;
  const own = current();
  const charts = own?.charts.filter((chart) => chart.chapter === chapter) ?? [];
  const excerpt = own?.excerpt?.chapter === chapter ? own.excerpt.columns : null;
  root.hidden = !charts.length && !excerpt;
  if (root.hidden) return;
  let part = root.querySelector("details");
  if (!part) {
    part = make("details", {}, make("summary"), make("div", { class: "seen" }));
    part.addEventListener("toggle", () => part.open && look(root));
    root.append(part);
  }
  part.querySelector("summary").replaceChildren("Look closer: ", make("bdi", {}, called()));
  const place = part.querySelector(".seen");
  place.replaceChildren();
  if (!part.open) return;
  const drawn = charts.map((chart, number) => {
    const canvas = make("div", { class: "canvas", tabindex: "0", role: "group", "aria-label": chart.title });
    const figure = make("figure", { id: `figure-${chapter}-chart-${number + 1}` }, canvas, make("figcaption", {}, make("strong", {}, `${chart.title}.`), ` ${chart.about}`));
    return { figure, chart: { ...chart, columns: unpackAll(chart.columns) } };
  });
  place.append(make("div", { class: "charts" }, ...drawn.map((one) => one.figure)));
  for (const { figure, chart } of drawn) {
    const rows = charted(figure, chart, chosen.layer, chosen.head);
    readable(figure, () => rows);
  }
  if (excerpt) place.append(...excerpted(unpackAll(excerpt), chosen.layer));
  place.append(...own.notes.filter((note) => note.chapter === chapter).map((note) => make("p", { class: "meta" }, note.text)));
}

function layerNumbers() {
  const part = document.querySelector(".layer-numbers");
  const own = current();
  part.hidden = !own?.layers.length;
  if (part.hidden) return;
  if (!part.firstChild) {
    part.append(make("summary"), make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Every metric of the layer" }));
    part.addEventListener("toggle", () => part.open && layerNumbers());
  }
  part.querySelector("summary").replaceChildren("Every metric of one layer: ", make("bdi", {}, called()));
  const place = part.querySelector(".scroll");
  place.replaceChildren();
  if (!part.open) return;
  const columns = ["metric", "value", "unit", "interval", "n", "difference from the baseline", "interval of the difference"];
  const heads = columns.map((column, at) => make("th", at === 0 || at === 2 ? { scope: "col", class: "text" } : { scope: "col" }, column));
  const caption = make("caption", { "aria-live": "polite" }, `Means over samples, heads and positions in layer ${chosen.layer}; four significant digits.`);
  place.append(make("table", {}, caption, make("thead", {}, make("tr", {}, ...heads)), make("tbody", {}, ...metricRows(unpackAll(own.metrics), chosen.layer))));
}

function chooser(data) {
  [models, explorers] = [data.models, data.explorers];
  if (!models.length) return;
  for (const name of ["model", "layer", "head"]) {
    controls[name] = make("select", { id: `choose-${name}` });
    controls[name].addEventListener("change", () => choose({ [name]: name === "model" ? controls.model.value : Number(controls[name].value) }));
  }
  options(controls.model, models.map((one) => one.id), models.map((one) => one.name));
  const step = (text, label, by) => {
    const button = make("button", { type: "button", "aria-label": label }, text);
    button.addEventListener("click", () => {
      const layers = current().layers;
      choose({ layer: layers[Math.min(Math.max(layers.indexOf(chosen.layer) + by, 0), layers.length - 1)] });
    });
    return button;
  };
  controls.layered = make("p", {}, make("label", { for: "choose-layer" }, "Layer"), controls.layer, step("‹", "Previous layer", -1), step("›", "Next layer", 1));
  controls.headed = make("p", {}, make("label", { for: "choose-head" }, "Head"), controls.head);
  const view = document.querySelector(".view");
  if (models.length > 1) view.append(make("p", {}, make("label", { for: "choose-model" }, "Model"), controls.model));
  view.append(controls.layered, controls.headed);
  view.hidden = false;
  const { given } = address();
  const wanted = models.find((one) => one.name === given.get("model"));
  choose({ model: wanted?.id ?? data.chosen, layer: Number(given.get("layer") ?? 0), head: Number(given.get("head") ?? 0) }, false);
}
