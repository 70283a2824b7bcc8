// Puts the page together from the numbers that lie in it.

const DATA = JSON.parse(document.getElementById("data").textContent);
const CLIENT_COLOURS = ["blue", "orange", "green", "pink", "red", "sky", "grey", "soft"];

function tiles() {
  const { summary } = DATA;
  const rows = [
    [
      amount(summary.num_requests),
      "sequences" + (summary.num_refused ? `, ${summary.num_refused} refused` : ""),
    ],
    [seconds(summary.seconds), "first arrival to last token"],
    [amount(summary.requests_per_second) + " /s", "sequences finished"],
    [amount(summary.tokens_per_second) + " /s", "tokens said"],
    [amount(summary.goodput) + " /s", "kept all promises"],
    [seconds(summary.ttft_p50), "first token, p50"],
    [seconds(summary.ttft_p99), "first token, p99"],
    [seconds(summary.tpot_p50), "per output token, p50"],
    [amount(summary.num_preemptions), "preemptions"],
    [percent(summary.recompute_tax), "computed again"],
    [percent(summary.hit_rate), "prompt found in the cache"],
    [percent(summary.padding), "padding"],
  ];
  find("tiles").append(
    ...rows.map(([value, text]) =>
      element("div", { class: "tile" }, element("b", {}, value), element("span", {}, text)),
    ),
  );
}

function distributions() {
  const NAMES = {
    ttft: "Time to first token",
    tpot: "Time per output token, after the first",
    gap: "Gaps between tokens",
    latency: "End to end",
  };
  // a few that took very long would press all others against the axis
  const axis = each => ({
    label: "time",
    short: "within",
    unit: "s",
    log: find("log").checked || each.points.at(-1)[0] > 20 * each.quantiles.p50,
  });
  const drawn = Object.entries(DATA.distributions).map(([name, each]) => {
    const shares = { p50: 0.5, p90: 0.9, p99: 0.99 };
    const made = chart(find("distributions"), {
      title: `${NAMES[name]} (${each.count.toLocaleString("en")})`,
      x: axis(each),
      y: { label: "share", unit: "%", max: 1 },
      series: [{ name: "share", colour: "blue", area: true, points: each.points }],
      dots: Object.entries(each.quantiles).map(([q, value]) => ({
        x: value,
        y: shares[q],
        text: `${q} ${seconds(value)}`,
      })),
    });
    return () => made.set({ x: axis(each) });
  });
  find("log").addEventListener("change", () => {
    for (const again of drawn) again();
  });
}

function overTime() {
  const { over_time: data } = DATA,
    group = [],
    host = find("over-time");
  const along = values => values.map((value, i) => [data.t[i], value]);
  const add = (title, unit, label, series, more = {}) =>
    chart(host, {
      title,
      group,
      x: { label: "seconds since the first arrival", short: "until", unit: "s" },
      y: { label, unit, ...more.y },
      series: series.map(([name, tint, values, rest]) => ({
        name,
        colour: tint,
        points: along(values),
        ...rest,
      })),
      ...more,
      y: { label, unit, ...(more.y || {}) },
    });
  add("Tokens computed and said", "", "tokens / s", [
    ["said", "green", data.said],
    ["computed", "blue", data.first],
    ["computed again", "orange", data.again],
  ]);
  add("Sequences", "", "sequences", [
    ["in a step", "blue", data.num_sequences],
    ["waiting", "red", data.num_waiting],
  ]);
  add(
    "Pages",
    "",
    "pages",
    [
      ["held", "blue", data.pages_held],
      ["idle, cached", "orange", data.pages_idle],
      ["free", "pale", data.pages_free],
    ],
    { stacked: true },
  );
  add("Preemptions", "", `in ${seconds(data.width)}`, [
    ["preemptions", "red", data.preempted, { area: true }],
  ]);
  add("Recompute tax, so far", "%", "of computed tokens", [
    ["computed before", "orange", data.recompute_tax, { area: true }],
  ]);
  add(
    "Cache hits, so far",
    "%",
    "of prompt tokens",
    [["found in the cache", "green", data.hit_rate, { area: true }]],
    { y: { max: 1 } },
  );
}

// the share of all requests that would keep promises `k` times as wide
function shareWithin(stretches, k, all) {
  return stretches.filter(each => each !== null && each <= k).length / all;
}

function goodput() {
  const { goodput: data } = DATA,
    all = data.stretch.length + data.num_refused;
  const isPromised = data.stretch.some(each => each !== null),
    middle = values => {
      const sorted = values.filter(each => each !== null).sort((a, b) => a - b);
      return sorted.length ? sorted[Math.floor(0.5 * (sorted.length - 1))] : 1;
    };
  const ttft = element("input", {
    type: "number",
    min: 0,
    step: "any",
    value: trim(2 * middle(data.ttft), 2),
  });
  const tpot = element("input", {
    type: "number",
    min: 0,
    step: "any",
    value: trim(2 * middle(data.tpot), 2),
  });
  const own = element("input", { type: "checkbox" }),
    said = element("span", { class: "note", role: "status" });
  own.checked = isPromised;
  own.disabled = !isPromised;
  const label = isPromised ? " what was promised to each" : " nothing was promised; choose limits:";
  find("targets").append(
    element("label", {}, own, label),
    element("label", {}, "TTFT ≤ ", ttft, " s"),
    element("label", {}, "TPOT ≤ ", tpot, " s"),
    said,
  );

  function options() {
    ttft.disabled = tpot.disabled = own.checked;
    const mine = data.ttft.map((value, i) =>
      value === null ? null : Math.max(value / ttft.value, (data.tpot[i] || 0) / tpot.value),
    );
    const stretches = own.checked ? data.stretch : mine,
      ks = Array.from({ length: 121 }, (_, i) => 10 ** (i / 60 - 1));
    const kept = own.checked ? data.share_kept : shareWithin(mine, 1, all);
    const base = own.checked ? data.stretch.filter(each => each !== null).length : all;
    const rate = DATA.seconds ? (kept * all) / DATA.seconds : 0;
    said.textContent = `${percent(kept)} of all requests keep ${own.checked ? "their promises" : "both limits"}: ${amount(rate)} a second.`;
    const points = ks.map(k => [k, shareWithin(stretches, k, own.checked ? promised() : base)]);
    return {
      title: own.checked
        ? "Share of requests with promises that would keep them, were they so many times as wide"
        : "Share of all requests within both limits, were they so many times as wide",
      x: { label: "times as wide", unit: "", log: true },
      y: { label: "share", unit: "%", max: 1 },
      series: [{ name: "share", colour: "green", area: true, points }],
      marks: [{ x: 1, text: own.checked ? "as promised" : "as chosen" }],
    };
  }
  // those that had promises and were refused or aborted have no stretch: count them among all
  function promised() {
    return Math.max(1, data.num_promised + data.num_refused);
  }
  const drawn = chart(find("goodput-chart"), options());
  const heading = () => {
    const next = options();
    drawn.set(next);
    find("goodput-chart").querySelector("h3").textContent = next.title;
  };
  for (const input of [ttft, tpot, own]) input.addEventListener("input", heading);
}

function fairness() {
  const {
      fairness: data,
      over_time: { t },
    } = DATA,
    host = find("fairness-charts"),
    group = [];
  if (Object.keys(data.service).length < 2) {
    host.remove();
    return;
  }
  const along = values => values.map((value, i) => [t[i], value]),
    x = { label: "seconds since the first arrival", short: "until", unit: "s" };
  const series = Object.entries(data.service_over_time).map(([client, values], i) => ({
    name: client || "(none)",
    colour: CLIENT_COLOURS[i],
    points: along(values),
    dash: i > 6 ? "3 3" : "none",
  }));
  const others = Object.keys(data.service).length - series.length;
  chart(host, {
    title: "Service so far" + (others ? `, of the ${series.length} that had the most` : ""),
    group,
    x,
    y: { label: "weighted tokens", unit: "" },
    series,
    legend: true,
  });
  chart(host, {
    title: "Jain's index of service so far",
    group,
    x,
    y: { label: "index", unit: "", max: 1 },
    series: [{ name: "Jain's index", colour: "green", points: along(data.jain_over_time) }],
  });
  chart(host, {
    title: "Most served client less the least served one",
    group,
    x,
    y: { label: "weighted tokens", unit: "" },
    series: [{ name: "gap", colour: "red", area: true, points: along(data.gap_over_time) }],
  });
}

tiles();
distributions();
overTime();
goodput();
fairness();
drawGantt(find("gantt"), DATA.gantt, Math.max(...DATA.over_time.t));
if (DATA.pages.length)
  DATA.pages.forEach((each, i) =>
    drawPages(find("picture"), each, DATA.pages.length > 1 ? `replica ${i}` : ""),
  );
else
  find("picture").append(
    element(
      "p",
      { class: "note" },
      "The pages were not traced: simulate(…, trace_pages=True), PageTrace.of(engine) or EventLog.attach(engine, trace_pages=True) does.",
    ),
  );
for (const draw of redraws) draw(); // the first were drawn while they had the page to themselves
