// Pages by steps: who holds each page, together with how many, and what it is when nobody does.

const SHARING = {
  // one holder, two, up to four, up to eight, more
  light: ["#a6c8e0", "#58a7c9", "#2a7ab0", "#1b4d8c", "#2b1055"],
  dark: ["#31577a", "#3f86b0", "#5fb6cf", "#a9dcc3", "#fff3b0"],
};
const rung = count => (count <= 1 ? 0 : count === 2 ? 1 : count <= 4 ? 2 : count <= 8 ? 3 : 4);
const isDark = () => document.documentElement.classList.contains("dark");

// the cells of each page: [column, tokens, is cached, holders], until the next one
function cellsOf(data) {
  return Array.from({ length: data.num_pages }, (_, page) => {
    const cells = [];
    for (let i = data.at[page]; i < data.at[page + 1];) {
      const count = data.changes[i + 3];
      cells.push([
        data.changes[i],
        data.changes[i + 1],
        data.changes[i + 2],
        data.changes.slice(i + 4, i + 4 + count),
      ]);
      i += 4 + count;
    }
    return cells;
  });
}

function indexAt(cells, column) {
  let low = -1,
    high = cells.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (cells[middle][0] <= column) low = middle;
    else high = middle - 1;
  }
  return low;
}

function drawPages(host, data, replica) {
  const pages = cellsOf(data),
    count = data.indices.length,
    MODES = modes(data);
  let mode = "request";
  const part = element("div");
  if (replica) part.append(element("h3", {}, replica));
  host.append(part);
  const picture = plane(part, {
    label: "pages by steps",
    columns: {
      low: 0,
      high: count,
      least: Math.min(count, 8),
      whole: true,
      label: "step",
      write: x => (data.indices[Math.min(x, count - 1)] ?? x).toLocaleString("en"),
    },
    rows: { count: data.num_pages, label: "page", write: String },
    height: Math.min(560, Math.max(220, 40 + data.num_pages * 7)),
    hint: "Mouse and keys as above.",
    paint,
    describe,
    pick: (x, page) => {
      const holders = cellAt(x, page)[3];
      if (holders.length) pin(data.names[holders[0]]);
    },
  });
  const choice = element(
    "select",
    { "aria-label": "colour of pages" },
    ...Object.keys(MODES).map(name => element("option", {}, name)),
  );
  choice.addEventListener("change", () => {
    mode = choice.value;
    keys();
    picture.draw();
  });
  const legend = element("span", { class: "legend" });
  picture.bar.insertBefore(element("label", {}, "coloured by ", choice), picture.buttons);
  picture.bar.insertBefore(legend, picture.buttons);
  if (data.is_full)
    part.append(
      element(
        "p",
        { class: "note" },
        `The trace is full after step ${data.indices[count - 1]}: later steps are not in it.`,
      ),
    );
  function keys() {
    legend.replaceChildren(
      ...MODES[mode].keys().map(([text, fill]) => {
        const swatch = element("i");
        swatch.style.background = fill;
        swatch.style.borderColor = colour("line");
        return element("span", { class: "key" }, swatch, text);
      }),
    );
  }
  keys();
  redraws.push(keys);
  pinned.listeners.push(picture.draw);

  const NOTHING = [0, 0, 0, []];
  function cellAt(x, page) {
    const index = indexAt(pages[page], Math.floor(x));
    return index < 0 ? NOTHING : pages[page][index];
  }

  function paint(context, view) {
    const fill = MODES[mode].fill(),
      height = view.Y(1) - view.Y(0),
      gap = height > 5 ? 0.6 : 0;
    const last = Math.min(data.num_pages - 1, Math.ceil(view.y1));
    for (let page = Math.max(0, Math.floor(view.y0)); page <= last; page++) {
      const cells = pages[page];
      let start = null,
        before = null,
        alpha = 1;
      const flush = end => {
        if (before === null) return;
        context.globalAlpha = alpha;
        context.fillStyle = before;
        const left = view.X(start);
        context.fillRect(
          left,
          view.Y(page),
          Math.max(0.7, view.X(end) - left),
          Math.max(1, height - gap),
        );
      };
      for (
        let i = Math.max(0, indexAt(cells, view.x0));
        i < cells.length && cells[i][0] <= view.x1;
        i++
      ) {
        const now = fill(cells[i]);
        const pale =
          pinned.name && !cells[i][3].some(holder => data.names[holder] === pinned.name) ? 0.22 : 1;
        if (now === before && pale === alpha) continue;
        flush(cells[i][0]);
        start = cells[i][0];
        before = now;
        alpha = pale;
      }
      flush(count);
    }
    context.globalAlpha = 1;
  }

  function describe(x, page) {
    const column = Math.min(count - 1, Math.floor(x)),
      [, tokens, isCached, holders] = cellAt(x, page);
    const names =
      holders
        .slice(0, 6)
        .map(holder => data.names[holder])
        .join(", ") + (holders.length > 6 ? ` and ${holders.length - 6} more` : "");
    const held = `${tokens} of ${data.page_size} tokens`;
    const state = holders.length
      ? `held by ${names}\n${held}${isCached ? ", known to the cache" : ""}`
      : isCached
        ? `idle: held by nobody, kept in the cache\n${held}`
        : "free";
    return `page ${page}, step ${data.indices[column]} (${trim(data.starts[column], 6)}–${trim(data.ends[column], 6)} s)\n${state}`;
  }
}

function modes(data) {
  // neighbours in time get hues far apart: the golden angle
  const hues = data.names.map((_, n) => {
    const hue = ((n * 137.508) % 360).toFixed(0),
      light = 46 + 14 * (n % 2);
    return `hsl(${hue} 50% ${light}%)`;
  });
  const idle = () => colour("idle");
  return {
    request: {
      fill: () => {
        const none = idle();
        return cell => (cell[3].length ? hues[cell[3][0]] : cell[2] ? none : null);
      },
      keys: () => [
        [
          "a colour a request, of a shared page its first holder",
          "linear-gradient(90deg, #b33, #3a6, #46c)",
        ],
        ["idle, cached", idle()],
        ["free", colour("empty")],
      ],
    },
    sharing: {
      fill: () => {
        const none = idle(),
          own = SHARING[isDark() ? "dark" : "light"];
        return cell => (cell[3].length ? own[rung(cell[3].length)] : cell[2] ? none : null);
      },
      keys: () => [
        ...["1 holder", "2", "3–4", "5–8", "9 or more"].map((text, i) => [
          text,
          SHARING[isDark() ? "dark" : "light"][i],
        ]),
        ["idle, cached", idle()],
        ["free", colour("empty")],
      ],
    },
    "cache state": {
      fill: () => {
        const [held, known, kept] = ["sky", "blue", "orange"].map(colour);
        return cell => (cell[3].length ? (cell[2] ? known : held) : cell[2] ? kept : null);
      },
      keys: () => [
        ["held", colour("sky")],
        ["held, and known to the cache", colour("blue")],
        ["idle, cached", colour("orange")],
        ["free", colour("empty")],
      ],
    },
    "tokens held": {
      fill: () => {
        const [own, none] = [colour("blue"), idle()];
        return cell =>
          cell[3].length
            ? mix(own, 0.15 + (0.85 * cell[1]) / data.page_size)
            : cell[2]
              ? none
              : null;
      },
      keys: () => [
        ["nearly empty", mix(colour("blue"), 0.2)],
        ["full", colour("blue")],
        ["idle, cached", idle()],
        ["free", colour("empty")],
      ],
    },
  };
}

const mix = (hex, alpha) =>
  hex +
  Math.round(255 * alpha)
    .toString(16)
    .padStart(2, "0");
