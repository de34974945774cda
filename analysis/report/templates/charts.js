// ---- charts that the page draws itself: of the model, layer and head that a reader chose ----

const INK = "var(--ink,#1d232a)";
const [MUTED, GRID, CARD] = ["var(--f-muted,#5d6772)", "var(--f-grid,#dde2e7)", "var(--card,#ffffff)"];
const HUES = ["var(--f-blue,#0072B2)", "var(--f-vermillion,#D55E00)", "var(--f-green,#009E73)", "var(--f-purple,#CC79A7)", "var(--f-orange,#E69F00)", "var(--f-sky,#56B4E9)", INK];
const DASHES = ["", "6 2", "2 2", "7 2 2 2", "9 3"];
const [WIDE, HIGH, LEFT, RIGHT, TOP, BOTTOM, LINE] = [460, 250, 52, 12, 30, 58, 14];

// The rows of a layer, or all of them, as objects.
function rowsOf(columns, layer) {
  const names = Object.keys(columns);
  const found = [];
  columns[names[0]].forEach((_, at) => {
    if (layer === undefined || columns.layer[at] === layer) found.push(Object.fromEntries(names.map((name) => [name, columns[name][at]])));
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
  return draw("text", { x, y, fill: INK, "font-size": 10, ...attributes }, text);
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
  const grid = draw("g", { stroke: GRID, "stroke-width": 0.7 });
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
  let spill = 0;
  const marked = named ? stops.filter((_, at) => at % every === 0) : ticks(low + pad, high - pad, 8).filter((tick) => chart.kind === "steps" || Number.isInteger(tick));
  for (const value of marked) {
    const at = x(value);
    const turned = named ? { "text-anchor": "end", transform: `rotate(-35 ${at} ${HIGH - BOTTOM + 13})` } : { "text-anchor": "middle" };
    const whole = String(named ? label(value) : shown(value));
    const text = whole.length > 18 ? `${whole.slice(0, 17)}…` : whole;
    if (named) spill = Math.max(spill, text.length * 4.6 - at); // what a turned word needs to the left of its tick
    svg.append(word(at, HIGH - BOTTOM + 13, text, turned));
  }
  const foot = named ? HIGH : HIGH - 22; // turned words take more room
  if (chart.xlabel) svg.append(word((LEFT + WIDE - RIGHT) / 2, foot - 4, chart.xlabel, { "text-anchor": "middle" }));
  svg.append(draw("path", { d: `M${LEFT} ${TOP}V${HIGH - BOTTOM}H${WIDE - RIGHT}`, fill: "none", stroke: MUTED, "stroke-width": 0.8 }));
  return { x, y, foot, spill, ground: y(chart.log ? 1 : Math.max(bottom, 0)), thick: ((WIDE - LEFT - RIGHT) / (high - low)) * 0.7 };
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
    if (chart.log) svg.append(draw("path", { d: `M${LEFT} ${at.ground}H${WIDE - RIGHT}`, stroke: INK, "stroke-width": 0.9 }));
    svg.append(draw("path", { d: `M${place(chart.y).join("L")}`, fill: "none", stroke: hue, "stroke-width": 1.7, "stroke-dasharray": dash }));
    return SHAPES.dots(svg, at, chart, rows, hue);
  },
  dots(svg, at, chart, rows, hue, dash, head) {
    return rows.map((row) => {
      const [x, y] = [at.x(row[chart.x]), at.y(row[chart.y])];
      const full = !chart.choose || row.head === head;
      svg.append(draw("circle", { cx: x, cy: y, r: chart.choose && full ? 5 : 3, fill: full ? hue : CARD, stroke: hue, "stroke-width": 1.4 }));
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
function legend(svg, kinds, foot, spill) {
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
  svg.setAttribute("viewBox", `${-spill} ${-down} ${WIDE + spill} ${foot + down}`);
}

const [PALE, DEEP, OTHER] = [[247, 251, 255], [8, 64, 129], [166, 54, 3]];

// Colour of a share of the scale: 0 to 1, or −1 to 1 where the scale has two sides.
function shade(part) {
  const end = part < 0 ? OTHER : DEEP;
  const far = Math.min(Math.abs(part), 1);
  return `rgb(${PALE.map((one, at) => Math.round(one + (end[at] - one) * far)).join(" ")})`;
}

// A heat map with its scale; gives where the cells stand. Maps of a thing against itself are square.
function mapped(svg, chart, rows) {
  const stops = (name) => {
    const found = [...new Set(rows.map((row) => row[name]))];
    return typeof found[0] === "number" ? found.sort((one, two) => one - two) : found;
  };
  const [across, up] = [stops(chart.x), stops(chart.y)];
  const values = rows.map((row) => row[chart.shade]).filter((value) => typeof value === "number");
  const sided = chart.middle !== null;
  const reach = sided ? Math.max(...values.map((value) => Math.abs(value - chart.middle)), 1e-9) : 0;
  const [low, high] = sided ? [chart.middle - reach, chart.middle + reach] : [Math.min(0, ...values), Math.max(...values, 1e-9)];
  const part = (value) => (sided ? (value - chart.middle) / reach : (value - low) / (high - low));
  const left = typeof up[0] === "number" ? LEFT : 110;
  const right = WIDE - 64;
  let wide = (right - left) / across.length;
  let tall = Math.min(Math.max(9, 170 / up.length), 24);
  if (across.length === up.length && across.every((value, at) => value === up[at])) wide = tall = Math.min(wide, 300 / up.length, 48);
  const bottom = 12 + tall * up.length;
  const x = (value) => left + wide * across.indexOf(value);
  const y = (value) => bottom - tall * (up.indexOf(value) + 1);
  const seen = rows.filter((row) => typeof row[chart.shade] === "number");
  for (const row of seen)
    svg.append(draw("rect", { x: x(row[chart.x]), y: y(row[chart.y]), width: wide + 0.3, height: tall + 0.3, fill: shade(part(row[chart.shade])) }));
  const label = (row, name) => (name === chart.y || !chart.labels ? row[name] : row[chart.labels]);
  const text = (value, name) => String(shown(label(rows.find((row) => row[name] === value), name)));
  const thin = (list, room) => list.filter((_, at) => at % Math.max(1, Math.ceil(list.length / room)) === 0);
  const words = typeof across[0] === "string" || chart.labels;
  for (const value of thin(across, words ? 14 : 16)) {
    const at = x(value) + wide / 2;
    const turned = words ? { "text-anchor": "end", transform: `rotate(-35 ${at} ${bottom + 13})` } : { "text-anchor": "middle" };
    svg.append(word(at, bottom + 13, text(value, chart.x).slice(0, 18), turned));
  }
  for (const value of thin(up, 18)) svg.append(word(left - 6, y(value) + tall / 2 + 3.5, text(value, chart.y).slice(0, 20), { "text-anchor": "end" }));
  const foot = bottom + (words ? 62 : 30);
  if (chart.xlabel) svg.append(word((left + right) / 2, foot, chart.xlabel, { "text-anchor": "middle" }));
  if (chart.ylabel) svg.append(word(12, (12 + bottom) / 2, chart.ylabel, { transform: `rotate(-90 12 ${(12 + bottom) / 2})`, "text-anchor": "middle" }));
  const bar = left + wide * across.length + 12;
  for (let step = 0; step < 24; step++)
    svg.append(draw("rect", { x: bar, y: 12 + ((bottom - 12) * (23 - step)) / 24, width: 9, height: (bottom - 12) / 24 + 0.3, fill: shade(sided ? step / 11.5 - 1 : step / 23) }));
  const ends = { 0: low, 1: high, ...(sided ? { 0.5: chart.middle } : {}) };
  for (const [at, value] of Object.entries(ends)) svg.append(word(bar + 13, bottom - (bottom - 19) * at, shown(Number(value.toPrecision(3)))));
  svg.setAttribute("viewBox", `0 0 ${WIDE} ${foot + 8}`);
  return { rows: seen, spots: seen.map((row) => [x(row[chart.x]) + wide / 2, y(row[chart.y]) + tall / 2]) };
}

// The rows of one series with their places, packed as those of any other figure.
function packedRows(panel, series, rows, spots, dropped = "") {
  const names = Object.keys(rows[0]).filter((name) => name !== dropped);
  const pack = (name) => (typeof rows[0][name] === "string" ? { texts: rows.map((row) => row[name]), at: rows.map((_, place) => place) } : rows.map((row) => row[name]));
  return { panel, series, columns: Object.fromEntries(names.map((name) => [name, pack(name)])), x: spots.map((spot) => spot[0]), y: spots.map((spot) => spot[1]) };
}

// Draws a chart into its figure and gives the rows behind it.
function charted(figure, chart, layer, head) {
  const drawn = chart.kind === "map" ? chart.shade : chart.y;
  const rows = rowsOf(chart.columns, chart.layered ? layer : undefined).filter((row) => typeof row[drawn] === "number");
  if (chart.kind === "steps") closed(rows, chart);
  const panel = chart.layered ? `layer ${layer}` : "";
  const svg = draw("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", "aria-label": [chart.title, panel].filter(Boolean).join(", "), "font-family": "sans-serif" });
  figure.querySelector(".canvas").replaceChildren(svg);
  if (!rows.length) {
    svg.append(word(WIDE / 2, HIGH / 2, "nothing was measured here", { "text-anchor": "middle" }));
    return { parts: [] };
  }
  if (chart.kind === "map") {
    const { rows: seen, spots } = mapped(svg, chart, rows);
    return { parts: [packedRows(panel, "", seen, spots)] };
  }
  const at = frame(svg, chart, rows);
  const kinds = chart.series ? [...new Set(rows.map((row) => row[chart.series]))] : [""];
  legend(svg, kinds.filter(Boolean), at.foot, at.spill);
  const parts = kinds.map((kind, number) => {
    const own = chart.series ? rows.filter((row) => row[chart.series] === kind) : rows;
    const spots = SHAPES[chart.kind](svg, at, chart, own, HUES[number % HUES.length], DASHES[number % DASHES.length], head);
    return packedRows(panel, kind, own, spots, chart.series);
  });
  return { parts };
}
