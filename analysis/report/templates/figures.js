// ---- figures: read a mark, save the picture, save its rows ----

// One row a mark: what it says, and where it stands in the picture.
function marksOf(data) {
  const marks = [];
  for (const part of data.parts) {
    const columns = Object.fromEntries(Object.entries(part.columns).map(([name, column]) => [name, unpack(column)]));
    const place = (rule) =>
      Array.isArray(rule) ? rule : columns[rule.of].map((value) => (value === null ? null : rule.a + rule.b * (rule.log ? Math.log(value) : value)));
    const [x, y] = [place(part.x), place(part.y)];
    x.forEach((_, at) => {
      const row = { panel: part.panel, series: part.series };
      for (const name in columns) row[name] = columns[name][at];
      marks.push({ row, x: x[at], y: y[at] });
    });
  }
  return marks;
}

const HIDDEN = new Set(["panel", "series", "unit", "ci_low", "ci_high"]);

function sentence(row) {
  const lines = [[row.panel, row.series].filter(Boolean).join(", ")];
  const unit = row.unit ? ` ${row.unit}` : "";
  for (const [name, value] of Object.entries(row)) {
    if (HIDDEN.has(name) || value === null || value === "") continue;
    lines.push(`${name.replaceAll("_", " ")}: ${shown(value)}${name === "value" ? unit : ""}`);
  }
  if (typeof row.ci_low === "number" && typeof row.ci_high === "number") lines.push(`interval: ${shown(row.ci_low)} to ${shown(row.ci_high)}`);
  return lines.filter(Boolean);
}

// A text that a spreadsheet would run as a formula is kept from it by an apostrophe; numbers are written as they are.
function field(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return `"${text.replaceAll('"', '""')}"`;
}

function csv(marks) {
  const names = [...new Set(marks.flatMap((mark) => Object.keys(mark.row)))].filter(
    (name) => !["panel", "series"].includes(name) || marks.some((mark) => mark.row[name])
  );
  const lines = [names.map(field), ...marks.map((mark) => names.map((name) => field(mark.row[name])))];
  return lines.map((line) => line.join(",") + "\r\n").join("");
}

function picture(svg) {
  const copy = svg.cloneNode(true);
  copy.querySelectorAll(".mark").forEach((mark) => mark.remove());
  // Programs that read SVG 1.1 only want links in their own namespace.
  const links = SVG.replace("2000/svg", "1999/xlink");
  for (const element of copy.querySelectorAll("[href]")) element.setAttributeNS(links, "xlink:href", element.getAttribute("href"));
  const [x, y, width, height] = copy.getAttribute("viewBox").split(" ");
  copy.setAttribute("width", `${width}pt`);
  copy.setAttribute("height", `${height}pt`);
  copy.prepend(draw("rect", { x, y, width: "100%", height: "100%", fill: "#ffffff" }));
  // Other programs know no colour scheme: what they read has the colours of paper.
  return new XMLSerializer().serializeToString(copy).replace(/var\(--[\w-]+, ?(#\w+)\)/g, "$1");
}

// Files are named by the figure's place in the page, never by what a study calls its models.
function save(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

const tip = make("div", { class: "tip", role: "tooltip", id: "tip", hidden: "" });
document.body.append(tip);

function readable(figure, data) {
  const name = `indexscope-${figure.id.replace("figure-", "")}`;
  const canvas = figure.querySelector(".canvas");
  const title = canvas.getAttribute("aria-label");
  let rows = null;
  let at = -1;
  const svg = () => canvas.querySelector("svg");
  const every = () => (rows ??= marksOf(data()));
  const all = () => every().filter((mark) => mark.x !== null && mark.y !== null);
  const button = (text, label, act) => {
    const made = make("button", { type: "button", "aria-label": `${label}: ${title}` }, text);
    made.addEventListener("click", act);
    return made;
  };
  const told = make("output", { class: "reading-out" });

  const hide = () => {
    tip.hidden = true;
    svg().querySelectorAll(".mark").forEach((mark) => mark.remove());
  };
  const show = (place, say) => {
    hide();
    at = place;
    const mark = all()[at];
    const lines = sentence(mark.row);
    svg().append(draw("circle", { class: "mark", cx: mark.x, cy: mark.y, r: 5, fill: "none", stroke: "var(--ink,#1d232a)", "stroke-width": 1.6 }));
    tip.replaceChildren(...lines.map((line, number) => make(number || lines.length === 1 ? "span" : "strong", { dir: "auto" }, line)));
    tip.hidden = false;
    const point = new DOMPoint(mark.x, mark.y).matrixTransform(svg().getScreenCTM());
    const width = document.documentElement.clientWidth;
    const left = Math.min(Math.max(point.x + 14, 6), width - tip.offsetWidth - 6);
    const above = point.y - tip.offsetHeight - 12;
    tip.style.left = `${left + scrollX}px`;
    tip.style.top = `${(above > 4 ? above : point.y + 16) + scrollY}px`;
    if (say) told.textContent = `${at + 1} of ${all().length}. ${lines.join("; ")}`;
  };
  const step = (by) => {
    const count = all().length;
    if (count) show(by === -Infinity ? 0 : by === Infinity ? count - 1 : (at + by + count + (at < 0 && by < 0 ? 1 : 0)) % count, true);
  };
  const nearest = (event, reach) => {
    const inverse = svg().getScreenCTM().inverse();
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(inverse);
    const limit = reach * inverse.a;
    let [best, place] = [limit * limit, -1];
    all().forEach((mark, number) => {
      const far = (mark.x - point.x) ** 2 + (mark.y - point.y) ** 2;
      if (far < best) [best, place] = [far, number];
    });
    if (place >= 0) show(place, false);
    else hide();
  };
  canvas.addEventListener("pointermove", (event) => event.pointerType === "mouse" && nearest(event, 28));
  canvas.addEventListener("pointerdown", (event) => nearest(event, 40));
  canvas.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
  canvas.addEventListener("blur", hide);
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Escape") hide();
    else if (by !== undefined) {
      event.preventDefault();
      step(by);
    }
  });
  const tools = make("p", { class: "tools" },
    button("Save SVG", "Save as SVG", () => save(`${name}.svg`, picture(svg()), "image/svg+xml")),
    button("Save CSV", "Save the data as CSV", () => save(`${name}.csv`, csv(every()), "text/csv")),
    button("‹", "Previous value", () => step(-1)),
    button("›", "Next value", () => step(1)),
    told);
  figure.append(tools);
  return () => {
    hide();
    [rows, at] = [null, -1];
    told.textContent = "";
  };
}

addEventListener("keydown", (event) => event.key === "Escape" && (tip.hidden = true));
