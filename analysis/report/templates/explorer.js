// ---- one layer, one head at a time ----

const HUES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#1d232a"];
const DASHES = ["", "6 2", "2 2", "7 2 2 2", "9 3"];
const [WIDE, HIGH, LEFT, RIGHT, TOP, BOTTOM, LINE] = [460, 250, 52, 12, 30, 58, 14];

// The rows of a layer, as objects.
function rowsOf(columns, layer) {
  const names = Object.keys(columns);
  const found = [];
  columns.layer.forEach((value, at) => {
    if (value === layer) found.push(Object.fromEntries(names.map((name) => [name, columns[name][at]])));
  });
  return found;
}

function ticks(low, high, count = 5) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((size) => size * power).find((size) => size >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(Number(value.toPrecision(8)));
  return found;
}

function word(x, y, text, attributes = {}) {
  return draw("text", { x, y, fill: "#1d232a", "font-size": 10, ...attributes }, text);
}

// Scale, axes and grid of one chart; gives the functions that place a value.
function frame(svg, chart, rows) {
  const [x0, x1] = chart.kind === "steps" ? ["left", "right"] : [chart.x, chart.x];
  const named = chart.labels || typeof rows[0][x0] === "string";
  const stops = named ? [...new Set(rows.map((row) => row[x0]))] : [];
  const spots = rows.flatMap((row) => (named ? [stops.indexOf(row[x0])] : [row[x0], row[x1]]));
  const pad = chart.kind === "steps" ? 0 : 0.6;
  const [low, high] = [Math.min(...spots) - pad, Math.max(...spots) + pad];
  const values = rows.flatMap((row) => [row[chart.y], row.ci_low, row.ci_high]).filter((value) => typeof value === "number" && (!chart.log || value > 0));
  const scale = (value) => (chart.log ? Math.log2(value) : value);
  let bottom = Math.min(chart.log ? -1 : 0, ...values.map(scale));
  let top = Math.max(chart.log ? 1 : 0, ...values.map(scale));
  if (top === bottom) top = bottom + 1;
  top += (top - bottom) * 0.04;
  if (bottom < 0) bottom -= (top - bottom) * 0.04;
  const x = (value) => LEFT + (((named ? stops.indexOf(value) : value) - low) / (high - low)) * (WIDE - LEFT - RIGHT);
  const y = (value) => HIGH - BOTTOM - ((scale(value) - bottom) / (top - bottom)) * (HIGH - TOP - BOTTOM);
  const grid = draw("g", { stroke: "#dde2e7", "stroke-width": 0.7 });
  svg.append(grid);
  for (const tick of ticks(bottom, top, 4)) {
    const value = chart.log ? 2 ** tick : tick;
    if (chart.log && !Number.isInteger(tick)) continue;
    grid.append(draw("path", { d: `M${LEFT} ${y(value)}H${WIDE - RIGHT}` }));
    svg.append(word(LEFT - 6, y(value) + 3.5, chart.log && tick < 0 ? `1/${2 ** -tick}` : shown(value), { "text-anchor": "end" }));
  }
  if (chart.ylabel) svg.append(word(12, (TOP + HIGH - BOTTOM) / 2, chart.ylabel, { transform: `rotate(-90 12 ${(TOP + HIGH - BOTTOM) / 2})`, "text-anchor": "middle" }));
  const label = (value) => (chart.labels ? rows.find((row) => row[x0] === value)[chart.labels] : value);
  const every = Math.ceil(stops.length / 16);
  const marked = named ? stops.filter((_, at) => at % every === 0) : ticks(low + pad, high - pad, 8).filter((tick) => chart.kind === "steps" || Number.isInteger(tick));
  for (const value of marked) {
    const at = x(value);
    const turned = named ? { "text-anchor": "end", transform: `rotate(-35 ${at} ${HIGH - BOTTOM + 13})` } : { "text-anchor": "middle" };
    const text = String(named ? label(value) : shown(value));
    svg.append(word(at, HIGH - BOTTOM + 13, text.length > 15 ? `${text.slice(0, 14)}…` : text, turned));
  }
  if (chart.xlabel) svg.append(word((LEFT + WIDE - RIGHT) / 2, HIGH - 4, chart.xlabel, { "text-anchor": "middle" }));
  svg.append(draw("path", { d: `M${LEFT} ${TOP}V${HIGH - BOTTOM}H${WIDE - RIGHT}`, fill: "none", stroke: "#5d6772", "stroke-width": 0.8 }));
  return { x, y, ground: y(chart.log ? 1 : Math.max(bottom, 0)), thick: ((WIDE - LEFT - RIGHT) / (high - low)) * 0.7 };
}

const SHAPES = {
  steps(svg, at, chart, rows, hue, dash) {
    let line = `M${at.x(rows[0].left)} ${at.ground}`;
    for (const row of rows) line += `V${at.y(row.density)}H${at.x(row.right)}`;
    svg.append(draw("path", { d: `${line}V${at.ground}z`, fill: hue, "fill-opacity": 0.2, stroke: hue, "stroke-width": 1.3, "stroke-dasharray": dash }));
    return rows.map((row) => [(at.x(row.left) + at.x(row.right)) / 2, at.y(row.density)]);
  },
  line(svg, at, chart, rows, hue, dash) {
    const place = (name) => rows.filter((row) => row[name] > 0 || !chart.log).map((row) => `${at.x(row[chart.x])} ${at.y(row[name])}`);
    if (rows[0].ci_low !== undefined && rows.every((row) => row.ci_low > 0 || !chart.log))
      svg.append(draw("path", { d: `M${[...place("ci_high"), ...place("ci_low").reverse()].join("L")}z`, fill: hue, "fill-opacity": 0.2 }));
    if (chart.log) svg.append(draw("path", { d: `M${LEFT} ${at.ground}H${WIDE - RIGHT}`, stroke: "#1d232a", "stroke-width": 0.9 }));
    svg.append(draw("path", { d: `M${place(chart.y).join("L")}`, fill: "none", stroke: hue, "stroke-width": 1.7, "stroke-dasharray": dash }));
    return SHAPES.dots(svg, at, chart, rows, hue);
  },
  dots(svg, at, chart, rows, hue, dash, head) {
    return rows.map((row) => {
      const [x, y] = [at.x(row[chart.x]), at.y(row[chart.y])];
      const full = !chart.choose || row.head === head;
      svg.append(draw("circle", { cx: x, cy: y, r: chart.choose && full ? 5 : 3, fill: full ? hue : "#ffffff", stroke: hue, "stroke-width": 1.4 }));
      return [x, y];
    });
  },
  bars(svg, at, chart, rows, hue) {
    return rows.map((row) => {
      const [x, y] = [at.x(row[chart.x]), at.y(row[chart.y])];
      svg.append(draw("rect", { x: x - at.thick / 2, width: at.thick, y: Math.min(y, at.ground), height: Math.abs(at.ground - y), fill: hue }));
      return [x, y];
    });
  },
};

// A bin ends where the next one of its series begins; the last is as wide as the one before it.
function closed(rows, chart) {
  rows.forEach((row, at) => {
    const next = rows[at + 1];
    const [one, two] = next && next[chart.series] === row[chart.series] ? [row, next] : [rows[at - 1] ?? row, row];
    row.right = row.left + two.left - one.left;
  });
}

// Names the series above a chart, in as many lines as they take: the chart grows upward.
function legend(svg, kinds) {
  const names = draw("g", {});
  svg.append(names);
  let [across, down] = [LEFT, 0];
  kinds.forEach((kind, number) => {
    const entry = word(0, 0, kind);
    names.append(entry);
    const wide = entry.getComputedTextLength() || kind.length * 6;
    if (across > LEFT && across + 12 + wide > WIDE) [across, down] = [LEFT, down + LINE];
    entry.setAttribute("x", across + 12);
    entry.setAttribute("y", 14 + down);
    names.append(draw("circle", { cx: across + 4, cy: 10.5 + down, r: 4, fill: HUES[number % HUES.length] }));
    across += 24 + wide;
  });
  names.setAttribute("transform", `translate(0 ${-down})`);
  svg.setAttribute("viewBox", `0 ${-down} ${WIDE} ${HIGH + down}`);
}

// Draws a chart of one layer into its figure and gives the rows behind it, packed as those of any other figure.
function charted(figure, chart, layer, head) {
  const rows = rowsOf(chart.columns, layer).filter((row) => typeof row[chart.y] === "number");
  if (chart.kind === "steps") closed(rows, chart);
  const svg = draw("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": `${chart.title}, layer ${layer}`, "font-family": "sans-serif" });
  figure.querySelector(".canvas").replaceChildren(svg);
  const parts = [];
  if (!rows.length) {
    svg.append(word(WIDE / 2, HIGH / 2, "nothing was measured in this layer", { "text-anchor": "middle" }));
    return { parts };
  }
  const at = frame(svg, chart, rows);
  const kinds = chart.series ? [...new Set(rows.map((row) => row[chart.series]))] : [""];
  legend(svg, kinds.filter(Boolean));
  kinds.forEach((kind, number) => {
    const own = chart.series ? rows.filter((row) => row[chart.series] === kind) : rows;
    const hue = HUES[number % HUES.length];
    const spots = SHAPES[chart.kind](svg, at, chart, own, hue, DASHES[number % DASHES.length], head);
    const names = Object.keys(own[0]).filter((name) => name !== chart.series);
    const columns = Object.fromEntries(names.map((name) => [name, typeof own[0][name] === "string" ? { texts: own.map((row) => row[name]), at: own.map((_, place) => place) } : own.map((row) => row[name])]));
    parts.push({ panel: `layer ${layer}`, series: kind, columns, x: spots.map((spot) => spot[0]), y: spots.map((spot) => spot[1]) });
  });
  return { parts };
}

function metricRows(body, columns, layer) {
  const rows = rowsOf(columns, layer);
  const span = (low, high) => (typeof low === "number" && typeof high === "number" ? `${shown(low)} to ${shown(high)}` : "–");
  body.replaceChildren(...rows.map((row) => {
    const target = document.getElementById(`def-${row.metric}`);
    const name = target ? make("a", { class: "term", href: `#def-${row.metric}` }, row.metric) : row.metric;
    const cells = [shown(row.value), row.unit, span(row.ci_low, row.ci_high), shown(row.n), shown(row.difference), span(row.difference_low, row.difference_high)];
    return make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell, place) => make("td", place === 1 ? { class: "text" } : {}, cell)));
  }));
}

function excerpted(place, columns, layer) {
  const rows = columns ? rowsOf(columns, layer) : [];
  place.hidden = !rows.length;
  if (!rows.length) return;
  const first = rows[0];
  const about = `Layer ${layer}, sample ${first.sample}, query at position ${first.query} (outlined); selected keys are underlined, darker with more attention. The selection holds ${shown(100 * first.recall)} % of the attention.`;
  const text = make("p", { class: "text" });
  let before = -1;
  for (const row of rows) {
    if (row.position > before + 1) text.append(make("span", { class: "gap" }, " […] "));
    before = row.position;
    const token = make("bdi", {}, row.token);
    const kinds = [row.weight >= 0 ? `level-${Math.ceil(4 * Math.min(row.weight, 1))}` : "", row.position === row.query ? "query" : ""].filter(Boolean);
    text.append(kinds.length ? make("mark", { class: kinds.join(" ") }, token) : token);
  }
  place.replaceChildren(make("p", { class: "meta" }, about), text);
}

function explorer(root, data) {
  const unpackAll = (columns) => columns && Object.fromEntries(Object.entries(columns).map(([name, column]) => [name, unpack(column)]));
  const metrics = unpackAll(data.metrics);
  const excerpt = unpackAll(data.excerpt);
  const name = root.parentElement.id;
  const pick = (id, values) => make("select", { id: `${name}-${id}` }, ...values.map((value) => make("option", { value }, String(value))));
  const layer = pick("layer", data.layers);
  const head = pick("head", Array.from({ length: data.heads }, (_, at) => at));
  const step = (text, label, by) => {
    const button = make("button", { type: "button", "aria-label": label }, text);
    button.addEventListener("click", () => {
      layer.selectedIndex = Math.min(Math.max(layer.selectedIndex + by, 0), layer.options.length - 1);
      update();
    });
    return button;
  };
  const choice = make("p", { class: "tools choice" }, make("label", {}, "Layer ", layer), step("‹", "Previous layer", -1), step("›", "Next layer", 1));
  if (data.heads) choice.append(make("label", {}, "Attention head ", head));
  const charts = data.charts.map((chart, number) => {
    chart.columns = unpackAll(chart.columns);
    const canvas = make("div", { class: "canvas", tabindex: "0", role: "group", "aria-label": chart.title });
    const figure = make("figure", { id: `figure-${name}-layer-${number + 1}` }, canvas, make("figcaption", {}, make("strong", {}, `${chart.title}.`), ` ${chart.about}`));
    const entry = { figure, chart, drawn: null };
    entry.reset = readable(figure, () => entry.drawn);
    return entry;
  });
  const body = make("tbody");
  const columns = ["metric", "value", "unit", "interval", "n", "difference from the baseline", "interval of the difference"];
  const heads = columns.map((column, place) => make("th", place === 0 || place === 2 ? { scope: "col", class: "text" } : { scope: "col" }, column));
  const caption = make("caption", { "aria-live": "polite" });
  const table = make("table", {}, caption, make("thead", {}, make("tr", {}, ...heads)), body);
  const passage = make("div", { class: "passage", role: "group", "aria-label": "Tokens that the selection holds", tabindex: "0" });
  const part = make("details", {}, make("summary", {}, "Every metric of the layer"), make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Every metric of the layer" }, table));
  root.append(choice, make("div", { class: "charts" }, ...charts.map((entry) => entry.figure)), passage, part, ...data.notes.map((note) => make("p", { class: "meta" }, note)));
  function update() {
    const [one, of] = [Number(layer.value), Number(head.value)];
    for (const entry of charts) {
      entry.drawn = charted(entry.figure, entry.chart, one, of);
      entry.reset();
    }
    caption.textContent = `Means over samples, heads and positions in layer ${one}; four significant digits.`;
    metricRows(body, metrics, one);
    excerpted(passage, excerpt, one);
  }
  layer.addEventListener("change", update);
  head.addEventListener("change", update);
  root.hidden = false;
  update();
}

// ---- the data of the page: JSON, deflated, as base64 ----

async function start() {
  const bytes = Uint8Array.from(atob(document.getElementById("data").textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const data = await new Response(stream).json();
  for (const [id, rows] of Object.entries(data.figures)) readable(document.getElementById(id), () => rows);
  for (const [id, layers] of Object.entries(data.explorers)) explorer(document.querySelector(`#${id} .explorer`), layers);
  document.documentElement.dataset.ready = "";
}
start();
