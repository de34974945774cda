// ---- the data of the page: JSON, deflated, as base64 ----

// The navigation marks the part that fills the upper half of the window.
function whereOneIs() {
  const links = [...document.querySelectorAll("nav a")];
  const parts = links.map((link) => document.getElementById(link.getAttribute("href").slice(1)));
  const mark = () => {
    const at = scrollY < 40 ? 0 : parts.reduce((last, part, place) => (part.getBoundingClientRect().top < innerHeight * 0.4 ? place : last), 0);
    links.forEach((link, place) => (place === at ? link.setAttribute("aria-current", "location") : link.removeAttribute("aria-current")));
  };
  addEventListener("scroll", mark, { passive: true });
  mark();
}

async function start() {
  const bytes = Uint8Array.from(atob(document.getElementById("data").textContent.trim()), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const data = await new Response(stream).json();
  for (const [id, rows] of Object.entries(data.figures)) readable(document.getElementById(id), () => rows);
  whereOneIs();
  chooser(data);
  searchable(document.querySelector(".view"));
  addEventListener("hashchange", unfold);
  unfold();
  document.documentElement.dataset.ready = "";
}
start();
