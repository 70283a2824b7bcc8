// The engine as it is now, several times a second: numbers, a minute of history, who is served.

const engine = (() => {
  const SPAN = 60; // seconds of history
  const history = [];
  let yours = null, // the request that this page sent
    watching = null;

  const TILES = [
    ["running", now => amount(now.num_running)],
    ["waiting", now => amount(now.num_waiting)],
    ["tokens/s", now => amount(now.tokens_per_second && Math.round(now.tokens_per_second))],
    ["pages held", now => amount(now.num_held)],
    ["pages cached", now => amount(now.num_cached)],
    ["cache hits", now => hits(now), "prompt tokens that were found in the cache"],
  ];
  const hits = now => (now.num_looked_up ? percent(now.num_hits / now.num_looked_up) : "–");
  const tiles = TILES.map(([name, , title]) => {
    const value = element("b", {}, "–");
    const tile = element("div", { class: "tile", title: title ?? "" }, value, element("span", {}, name));
    byId("tiles").append(tile);
    return value;
  });

  async function watch(model) {
    watching?.abort();
    const own = (watching = new AbortController());
    history.length = 0;
    while (!own.signal.aborted) {
      try {
        const path = "/page/watch?model=" + encodeURIComponent(model);
        for await (const now of eventsOf(await ask(path, { signal: own.signal }))) show(now);
        lose("The server ended the watch.");
      } catch (error) {
        if (own.signal.aborted) return;
        lose(error instanceof TypeError ? "The server cannot be reached." : error.message);
      }
      await new Promise(resolve => setTimeout(resolve, 1000));
    }
  }

  function say(text) {
    if (byId("state").textContent !== text) byId("state").textContent = text;
  }

  // what is shown is no longer so
  function lose(why) {
    byId("engine").classList.add("lost");
    say(why);
  }

  function show(now) {
    byId("engine").classList.remove("lost");
    say(`${now.is_healthy ? "serving" : "not answering"}, policy ${now.policy}` +
      (now.num_preemptions ? `, ${amount(now.num_preemptions)} preemptions` : ""));
    TILES.forEach(([, write], i) => (tiles[i].textContent = write(now)));
    history.push({ at: performance.now() / 1000, ...now });
    while (history[0].at < history.at(-1).at - SPAN) history.shift();
    picture.show(now);
    byId("pages-title").textContent =
      `The cache: ${amount(now.num_pages)} pages of ${now.page_size} tokens`;
    list(now.requests);
    charts();
  }

  const MOST_ROWS = 12;
  function list(requests) {
    const rest = requests.length - MOST_ROWS;
    byId("caption").textContent = requests.length
      ? "Yours, and the eldest first." + (rest > 0 ? ` ${rest} more not listed.` : "")
      : "No requests.";
    const first = requests.filter(row => row.id === yours),
      others = requests.filter(row => row.id !== yours);
    const rows = [...first, ...others].slice(0, MOST_ROWS).map(row => {
      const mark = element("i", { class: "swatch" });
      mark.style.background = row.num_pages ? hueOf(row.id) : "none";
      const name = element("th", { scope: "row", title: row.id }, mark);
      if (row.id === yours) name.append(element("span", { class: "yours" }, "yours"));
      name.append(short(row.id));
      const cells = [row.state, row.seconds.toFixed(1), row.num_prompt, row.num_said, row.num_pages, row.num_shared];
      const made = element("tr", {}, name, ...cells.map(text => element("td", {}, String(text))));
      made.dataset.id = row.id;
      return made;
    });
    byId("requests").replaceChildren(...rows);
    byId("requests").parentElement.tHead.hidden = !rows.length;
  }
  byId("requests").addEventListener("mouseover", event =>
    picture.choose(event.target.closest("tr")?.dataset.id ?? null),
  );
  byId("requests").addEventListener("mouseleave", () => picture.choose(null));

  // layers lie on each other; each is [fill, value of a moment]
  function area(host, name, layers) {
    const width = host.clientWidth || 300,
      height = 74,
      left = 34;
    const sums = history.map(now => layers.reduce((sum, [, value]) => sum + value(now), 0));
    const top = ticks(0, Math.max(4, ...sums), 3).at(-1) || 1,
      high = Math.max(top, ...sums);
    const end = history.at(-1)?.at ?? 0;
    const X = at => left + ((width - left) * (at - end + SPAN)) / SPAN,
      Y = value => height - 4 - ((height - 10) * value) / high;
    const svg = shape("svg", { width, height, role: "img", "aria-label": `${name}: now ${amount(Math.round(sums.at(-1) ?? 0))}` });
    for (const tick of ticks(0, high, 3)) {
      svg.append(shape("line", { class: "grid-line", x1: left, x2: width, y1: Y(tick), y2: Y(tick) }));
      svg.append(shape("text", { x: left - 5, y: Y(tick) + 4, "text-anchor": "end" }, amount(tick)));
    }
    const below = history.map(() => 0),
      shapes = [];
    for (const [fill, value] of layers) {
      const lower = [...below];
      history.forEach((now, i) => (below[i] += value(now)));
      const points = history.map((now, i) => `${X(now.at)},${Y(below[i])}`);
      const back = history.map((now, i) => `${X(now.at)},${Y(lower[i])}`).reverse();
      shapes.push(
        shape("polyline", { points: points.join(" "), fill: "none", stroke: colour(fill), "stroke-width": 1.5 }),
        shape("polygon", { points: [...points, ...back].join(" "), fill: colour(fill), "fill-opacity": 0.3 }),
      );
    }
    svg.append(...shapes.reverse()); // a layer of nothing does not hide the one below
    host.replaceChildren(svg);
  }

  function charts() {
    area(byId("speed"), "tokens per second", [["blue", now => now.tokens_per_second ?? 0]]);
    area(byId("crowd"), "requests", [
      ["green", now => now.num_running],
      ["orange", now => now.num_waiting],
    ]);
  }
  redraws.push(charts);
  charts();
  return { watch, mine: id => (yours = id) };
})();
