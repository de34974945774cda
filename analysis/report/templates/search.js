// ---- search: metrics, definitions, figures and headings of the page ----

const FOUND = 10;

function entries() {
  const found = [];
  const add = (id, title, kind, text = "") => found.push({ id, title, kind, text: `${title} ${text}`.toLowerCase() });
  for (const one of document.querySelectorAll("main > section[id]")) add(one.id, one.querySelector("h2").textContent, "question");
  for (const one of document.querySelectorAll("figure[id^=figure-study]")) add(one.id, one.querySelector("strong").textContent.replace(/\.$/, ""), "figure", one.querySelector("figcaption").textContent);
  for (const one of document.querySelectorAll(".of-model:not([hidden]) .panel")) add(one.id, one.querySelector("summary").textContent, "details", one.querySelector(".meta")?.textContent);
  for (const one of document.querySelectorAll(".definition")) {
    const name = one.querySelector("dt").firstChild.textContent.trim();
    add(one.id, name, "metric", `${name.replaceAll("_", " ")} ${one.querySelector(".meaning").textContent}`);
  }
  return found;
}

function searchable(view) {
  const box = make("input", { type: "search", id: "search", autocomplete: "off", spellcheck: "false", placeholder: "metric, figure, word" });
  const list = make("ul", { class: "found", "aria-label": "Found" });
  const told = make("output", { class: "meta", for: "search" });
  view.append(make("p", {}, make("label", { for: "search" }, "Search"), box), list, told);
  view.hidden = false;
  box.addEventListener("input", () => {
    const words = box.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    const all = words.length ? entries().filter((one) => words.every((word) => one.text.includes(word))) : [];
    all.sort((one, two) => two.title.toLowerCase().startsWith(words[0]) - one.title.toLowerCase().startsWith(words[0]));
    list.replaceChildren(...all.slice(0, FOUND).map((one) => make("li", {}, make("a", { href: `#${one.id}` }, one.title, " ", make("small", {}, one.kind)))));
    told.textContent = !words.length ? "" : all.length > FOUND ? `${FOUND} of ${all.length} found` : all.length ? "" : "Nothing found";
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Enter") list.querySelector("a")?.click();
    if (event.key !== "Escape") return;
    box.value = "";
    box.dispatchEvent(new Event("input"));
  });
}
