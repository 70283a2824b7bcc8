// One bar a request, coloured by what it was doing.

const PHASES = {
  queued: ["grey", "queued"],
  prompt: ["blue", "prompt"],
  decode: ["sky", "decode"],
  preempted: ["red", "preempted"],
  again: ["orange", "computed again"],
};

function drawGantt(host, data, end) {
  const ORDERS = {
    arrival: (a, b) => a.spans[1] - b.spans[1],
    "end-to-end time": (a, b) => (b.latency || 0) - (a.latency || 0),
    "time to first token": (a, b) => (b.ttft || 0) - (a.ttft || 0),
    preemptions: (a, b) => b.preemptions - a.preemptions || a.spans[1] - b.spans[1],
    client: (a, b) => a.client.localeCompare(b.client) || a.spans[1] - b.spans[1],
  };
  let rows = [...data.rows];
  const picture = plane(host, {
    label: "requests over time, one bar a request",
    columns: {
      low: 0,
      high: end,
      least: end / 1e4,
      label: "seconds since the first arrival",
      write: x => trim(x, 5) + " s",
    },
    rows: {
      count: rows.length,
      label: "request",
      write: index => (rows[index] ? shortened(rows[index].name) : ""),
    },
    height: Math.min(520, Math.max(200, 40 + rows.length * 9)),
    hint: HINT,
    paint,
    describe,
    pick: (x, index) => pin(rows[index].name),
  });
  const order = element(
    "select",
    { "aria-label": "order of requests" },
    ...Object.keys(ORDERS).map(name => element("option", {}, name)),
  );
  order.addEventListener("change", () => {
    rows = [...data.rows].sort(ORDERS[order.value]);
    picture.draw();
  });
  const legend = element("span", { class: "legend" });
  picture.bar.insertBefore(element("label", {}, "ordered by ", order), picture.buttons);
  picture.bar.insertBefore(legend, picture.buttons);
  function keys() {
    legend.replaceChildren(
      ...data.kinds.map(kind => {
        const swatch = element("i");
        swatch.style.background = colour(PHASES[kind][0]);
        return element("span", { class: "key" }, swatch, PHASES[kind][1]);
      }),
    );
  }
  keys();
  redraws.push(keys);
  pinned.listeners.push(picture.draw);

  function paint(context, view) {
    const colours = data.kinds.map(kind => colour(PHASES[kind][0]));
    const height = view.Y(1) - view.Y(0),
      gap = height > 4 ? 1 : 0;
    const last = Math.min(rows.length - 1, Math.ceil(view.y1));
    for (let index = Math.max(0, Math.floor(view.y0)); index <= last; index++) {
      const { spans, name } = rows[index],
        top = view.Y(index);
      context.globalAlpha = pinned.name && pinned.name !== name ? 0.25 : 1;
      for (let i = 0; i < spans.length; i += 3) {
        if (spans[i + 2] < view.x0 || spans[i + 1] > view.x1) continue;
        context.fillStyle = colours[spans[i]];
        const left = view.X(spans[i + 1]);
        const isThin = data.kinds[spans[i]] === "queued" && height > 5 ? height / 4 : 0;
        context.fillRect(
          left,
          top + isThin,
          Math.max(0.8, view.X(spans[i + 2]) - left),
          Math.max(1, height - gap - 2 * isThin),
        );
      }
    }
    context.globalAlpha = 1;
  }

  function describe(x, index) {
    const one = rows[index];
    let now = "";
    for (let i = 0; i < one.spans.length; i += 3)
      if (x >= one.spans[i + 1] && x <= one.spans[i + 2])
        now = `${PHASES[data.kinds[one.spans[i]]][1]} for ${seconds(one.spans[i + 2] - one.spans[i + 1])}, until ${trim(one.spans[i + 2], 6)} s\n`;
    const client = one.client ? `, client ${one.client}` : "";
    return (
      `request ${one.name}${client}\n${now}${one.prompt} prompt tokens (${one.cached} found), ${one.output} said, ${one.reason}\n` +
      `first token after ${seconds(one.ttft)}, ${seconds(one.tpot)} a token, ${seconds(one.latency)} in all` +
      (one.preemptions ? `\npreempted ${one.preemptions} times` : "")
    );
  }
}

const shortened = name => (name.length > 8 ? "…" + name.slice(-7) : name);
