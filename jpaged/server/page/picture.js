// The pages of the cache as they are now: a cell each, in the colour of the request that holds it.

const FREE = 0,
  CACHED = 1,
  FIRST_REQUEST = 2;
const hues = new Map(); // request -> colour
let numSeen = 0;

function hueOf(id) {
  if (!hues.has(id)) {
    // neighbours in time get hues far apart: the golden angle
    const n = numSeen++,
      hue = ((n * 137.508) % 360).toFixed(0);
    hues.set(id, `hsl(${hue} 50% ${46 + 14 * (n % 2)}%)`);
  }
  return hues.get(id);
}

function forgetOthers(requests) {
  const live = new Set(requests.map(row => row.id));
  for (const id of hues.keys()) if (!live.has(id)) hues.delete(id);
}

const short = id => (id.length > 22 ? id.slice(0, 14) + "…" + id.slice(-6) : id);

const picture = (() => {
  const canvas = byId("pages");
  let now = null,
    cells = [],
    shared = new Set(),
    chosen = null, // a request whose pages stand out
    cursor = null, // of the keyboard
    side = 10,
    columns = 1;

  function show(snapshot) {
    now = snapshot;
    forgetOthers(now.requests);
    cells = [];
    for (let i = 0; i < now.cells.length; i += 2)
      for (let n = 0; n < now.cells[i + 1]; n++) cells.push(now.cells[i]);
    shared = new Set(now.shared);
    canvas.setAttribute(
      "aria-label",
      `${now.num_pages} pages of the cache: ${now.num_held} held, ${now.num_shared} of them shared, ` +
        `${now.num_cached} cached, ${now.num_free} free. Arrow keys tell of each.`,
    );
    draw();
  }

  function layOut() {
    const width = canvas.clientWidth || 600;
    side = Math.max(4, Math.min(16, Math.floor(Math.sqrt((width * 260) / Math.max(1, cells.length)))));
    columns = Math.max(1, Math.floor(width / side));
    const height = Math.max(1, Math.ceil(cells.length / columns)) * side,
      dense = window.devicePixelRatio || 1;
    canvas.style.height = height + "px";
    canvas.width = width * dense;
    canvas.height = height * dense;
    const context = canvas.getContext("2d");
    context.scale(dense, dense);
    return context;
  }

  function draw() {
    if (!now) return;
    const context = layOut(),
      gap = side > 6 ? 1.5 : 0.7,
      fills = [colour("empty"), colour("idle"), ...now.requests.map(row => hueOf(row.id))];
    cells.forEach((holder, at) => {
      const x = (at % columns) * side,
        y = Math.floor(at / columns) * side,
        isPale = chosen && (holder < FIRST_REQUEST || nameOf(holder) !== chosen);
      context.globalAlpha = isPale ? 0.3 : 1;
      context.fillStyle = fills[holder];
      context.fillRect(x, y, side - gap, side - gap);
      if (shared.has(at)) {
        context.fillStyle = colour("card");
        const dot = Math.max(1.5, side / 3.5);
        context.fillRect(x + (side - gap - dot) / 2, y + (side - gap - dot) / 2, dot, dot);
      }
    });
    context.globalAlpha = 1;
    if (cursor !== null) {
      context.strokeStyle = colour("ink");
      context.lineWidth = 2;
      context.strokeRect((cursor % columns) * side, Math.floor(cursor / columns) * side, side - gap, side - gap);
    }
  }

  const nameOf = holder => now.requests[holder - FIRST_REQUEST]?.id;

  function describe(at) {
    const first = at * now.pages_per_cell,
      last = Math.min(now.num_pages, first + now.pages_per_cell) - 1,
      which = first === last ? `page ${first}` : `pages ${first}–${last}`,
      holder = cells[at];
    if (holder === FREE) return `${which}\nfree`;
    if (holder === CACHED) return `${which}\ncached: held by nobody, kept for its prefix`;
    const row = now.requests[holder - FIRST_REQUEST];
    return (
      `${which}\nheld by ${short(row.id)}` +
      (shared.has(at) ? ", and by others" : "") +
      `\n${row.num_pages} pages, ${row.num_tokens} tokens`
    );
  }

  function cellAt(event) {
    const box = canvas.getBoundingClientRect(),
      column = Math.floor((event.clientX - box.left) / side),
      at = Math.floor((event.clientY - box.top) / side) * columns + column;
    return column < columns && at >= 0 && at < cells.length ? at : null;
  }

  function choose(id) {
    if (chosen === id) return;
    chosen = id;
    draw();
    for (const row of document.querySelectorAll("#requests tr"))
      row.classList.toggle("chosen", row.dataset.id === id);
  }

  const chooseCell = at =>
    choose(at !== null && cells[at] >= FIRST_REQUEST ? nameOf(cells[at]) : null);

  canvas.addEventListener("mousemove", event => {
    if (!now) return;
    const at = cellAt(event);
    tell(at === null ? "" : describe(at), event.clientX, event.clientY);
    chooseCell(at);
  });
  canvas.addEventListener("mouseleave", () => {
    tell("");
    choose(null);
  });
  canvas.addEventListener("blur", () => {
    cursor = null;
    tell("");
    choose(null);
    draw();
  });
  canvas.addEventListener("keydown", event => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    if (!now || !(event.key in steps)) return;
    event.preventDefault();
    const next = cursor === null ? 0 : cursor + steps[event.key];
    if (next >= 0 && next < cells.length) cursor = next;
    const box = canvas.getBoundingClientRect();
    tell(describe(cursor), box.left + (cursor % columns) * side, box.top + Math.floor(cursor / columns) * side);
    chooseCell(cursor);
    draw();
  });

  const swatch = (text, fill, dot) => {
    const mark = element("i", dot ? { class: "dot" } : {});
    mark.style.background = fill;
    mark.style.borderColor = colour("line");
    return element("span", { class: "key" }, mark, text);
  };
  function legend() {
    byId("legend").replaceChildren(
      swatch("a colour a request", "linear-gradient(90deg, #b33, #3a6, #46c)"),
      swatch("shared", colour("grey"), true),
      swatch("cached", colour("idle")),
      swatch("free", colour("empty")),
    );
  }
  legend();
  redraws.push(legend, draw);
  return { show, choose };
})();
