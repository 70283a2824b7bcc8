// Small charts in SVG: lines and areas over a common axis, read by mouse or by arrow keys.

// options: title, x: {label, unit, log}, y: {label, unit, max}, series: [{name, colour, points, area}],
// stacked, dots: [{x, y, text}], marks: [{x, text}], group: charts that show the same x
function chart(host, options) {
  const figure = element("figure"),
    legend = element("div", { class: "legend" });
  const svg = shape("svg", { tabindex: 0, role: "img", "aria-label": options.title });
  figure.append(element("h3", {}, options.title), legend, svg);
  host.append(figure);
  const self = { show, draw };
  const HEIGHT = 190,
    LEFT = 58,
    RIGHT = 14,
    TOP = 10,
    BOTTOM = 34;
  let scale,
    cursor = null,
    at = 0;

  function layers() {
    if (!options.stacked) return options.series.map(each => ({ ...each, base: null }));
    const base = new Map();
    return options.series.map(each => {
      const below = each.points.map(([x]) => base.get(x) || 0);
      const points = each.points.map(([x, y], i) => [x, y === null ? null : below[i] + y]);
      each.points.forEach(([x, y]) => base.set(x, (base.get(x) || 0) + (y || 0)));
      return { ...each, stackedPoints: points, base: below };
    });
  }

  function draw() {
    const width = Math.max(280, svg.clientWidth || host.clientWidth || 600);
    svg.replaceChildren();
    svg.setAttribute("height", HEIGHT);
    legend.replaceChildren(
      ...(options.series.length > 1 || options.legend ? options.series : []).map(key),
    );
    const all = layers(),
      xs = options.series.flatMap(each => each.points.map(point => point[0]));
    const ys = all.flatMap(each => (each.stackedPoints || each.points).map(point => point[1] || 0));
    const isLog = options.x.log;
    const low = isLog ? Math.min(...xs.filter(x => x > 0)) : (options.x.min ?? Math.min(0, ...xs));
    const high = Math.max(...xs, low + 1e-12),
      top = options.y.max ?? (Math.max(...ys) * 1.06 || 1);
    const floor = options.y.min ?? 0,
      inner = width - LEFT - RIGHT;
    const place = x =>
      isLog
        ? Math.log(Math.max(x, low) / low) / Math.log(high / low || 2)
        : (x - low) / (high - low);
    const X = x => LEFT + inner * place(x);
    const Y = y => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (y - floor) / (top - floor));
    scale = { X, Y, low, high, width };
    const write = FORMATS[options.x.unit],
      writeY = FORMATS[options.y.unit];
    for (const y of ticks(floor, top, 4)) {
      svg.append(
        shape("line", { x1: LEFT, x2: width - RIGHT, y1: Y(y), y2: Y(y), stroke: colour("grid") }),
      );
      svg.append(shape("text", { x: LEFT - 7, y: Y(y) + 4, "text-anchor": "end" }, writeY(y)));
    }
    let lastX = -99;
    for (const x of isLog ? logTicks(low, high) : ticks(low, high, Math.min(8, inner / 80))) {
      if (X(x) - lastX < 44) continue;
      lastX = X(x);
      svg.append(
        shape("line", {
          x1: X(x),
          x2: X(x),
          y1: HEIGHT - BOTTOM,
          y2: HEIGHT - BOTTOM + 4,
          stroke: colour("line"),
        }),
      );
      svg.append(
        shape("text", { x: X(x), y: HEIGHT - BOTTOM + 15, "text-anchor": "middle" }, write(x)),
      );
    }
    svg.append(
      shape("line", {
        x1: LEFT,
        x2: width - RIGHT,
        y1: HEIGHT - BOTTOM,
        y2: HEIGHT - BOTTOM,
        stroke: colour("line"),
      }),
    );
    svg.append(
      shape(
        "text",
        { x: LEFT + inner / 2, y: HEIGHT - 3, "text-anchor": "middle" },
        options.x.label,
      ),
    );
    const yMiddle = TOP + (HEIGHT - TOP - BOTTOM) / 2;
    svg.append(
      shape(
        "text",
        { x: 11, y: yMiddle, "text-anchor": "middle", transform: `rotate(-90 11 ${yMiddle})` },
        options.y.label,
      ),
    );
    for (const each of all) paint(each, X, Y, floor);
    for (const mark of options.marks || []) {
      svg.append(
        shape("line", {
          x1: X(mark.x),
          x2: X(mark.x),
          y1: TOP,
          y2: HEIGHT - BOTTOM,
          stroke: colour("soft"),
          "stroke-dasharray": "4 3",
        }),
      );
      svg.append(shape("text", { x: X(mark.x) + 5, y: HEIGHT - BOTTOM - 7, class: "label" }, mark.text));
    }
    dots(X, Y, width);
    cursor = shape("line", {
      y1: TOP,
      y2: HEIGHT - BOTTOM,
      stroke: colour("ink"),
      "stroke-width": 1,
      visibility: "hidden",
    });
    svg.append(cursor);
  }

  function dots(X, Y, width) {
    for (const dot of options.dots || []) {
      svg.append(shape("circle", { cx: X(dot.x), cy: Y(dot.y), r: 4, fill: colour("red") }));
      const isRight = X(dot.x) > width - 130;
      svg.append(
        shape(
          "text",
          {
            x: X(dot.x) + (isRight ? -8 : 8),
            y: Y(dot.y) + (isRight ? -5 : 13),
            class: "label",
            "text-anchor": isRight ? "end" : "start",
          },
          dot.text,
        ),
      );
    }
  }

  function paint(each, X, Y, floor) {
    const points = each.stackedPoints || each.points,
      stroke = colour(each.colour) || each.colour;
    let line = "",
      area = "",
      run = [];
    const close = () => {
      if (!run.length) return;
      const path = run.map(([x, y]) => `${X(x).toFixed(1)},${Y(y).toFixed(1)}`).join("L");
      line += "M" + path;
      const back = run
        .map(([x, , base]) => `${X(x).toFixed(1)},${Y(base).toFixed(1)}`)
        .reverse()
        .join("L");
      area += `M${path}L${back}Z`;
      run = [];
    };
    points.forEach(([x, y], i) =>
      y === null ? close() : run.push([x, y, each.base ? each.base[i] : floor]),
    );
    close();
    if (each.area || options.stacked)
      svg.append(
        shape("path", { d: area, fill: stroke, "fill-opacity": options.stacked ? 0.85 : 0.25 }),
      );
    if (!options.stacked)
      svg.append(
        shape("path", {
          d: line,
          fill: "none",
          stroke,
          "stroke-width": 1.8,
          "stroke-linejoin": "round",
          "stroke-dasharray": each.dash || "none",
        }),
      );
  }

  function key(each) {
    const swatch = element("i");
    swatch.style.background = colour(each.colour) || each.colour;
    return element("span", { class: "key" }, swatch, each.name);
  }

  function nearest(x) {
    const points = options.series[0].points;
    let best = 0;
    points.forEach((point, i) => {
      if (Math.abs(point[0] - x) < Math.abs(points[best][0] - x)) best = i;
    });
    return best;
  }

  function show(x, isHere) {
    if (!cursor || x === null) {
      if (cursor) cursor.setAttribute("visibility", "hidden");
      return "";
    }
    cursor.setAttribute("x1", scale.X(x));
    cursor.setAttribute("x2", scale.X(x));
    cursor.setAttribute("visibility", "visible");
    if (!isHere) return "";
    const i = nearest(x),
      write = FORMATS[options.y.unit];
    const rows = options.series.map(
      each => `${each.name}: ${write(each.points[i] ? each.points[i][1] : null)}`,
    );
    return [
      `${options.x.short || options.x.label}: ${FORMATS[options.x.unit](options.series[0].points[i][0])}`,
      ...rows,
    ].join("\n");
  }

  function moveTo(x, left, top) {
    at = nearest(x);
    const found = options.series[0].points[at][0];
    for (const other of options.group || [self]) if (other !== self) other.show(found, false);
    tell(
      show(found, true),
      left ?? svg.getBoundingClientRect().left + scale.X(found),
      top ?? svg.getBoundingClientRect().top + 20,
    );
  }
  function leave() {
    for (const other of options.group || [self]) other.show(null);
    tell("");
  }

  svg.addEventListener("mousemove", event => {
    const left = event.clientX - svg.getBoundingClientRect().left;
    const share = Math.min(1, Math.max(0, (left - LEFT) / (scale.width - LEFT - RIGHT)));
    const { low, high } = scale;
    moveTo(
      options.x.log ? low * (high / low) ** share : low + share * (high - low),
      event.clientX,
      event.clientY,
    );
  });
  svg.addEventListener("mouseleave", leave);
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", event => {
    const points = options.series[0].points,
      jump = event.shiftKey ? 10 : 1;
    const to = { ArrowLeft: at - jump, ArrowRight: at + jump, Home: 0, End: points.length - 1 }[
      event.key
    ];
    if (event.key === "Escape") leave();
    if (to === undefined) return;
    event.preventDefault();
    moveTo(points[Math.min(points.length - 1, Math.max(0, to))][0]);
  });
  if (options.group) options.group.push(self);
  draw();
  redraws.push(draw);
  return {
    ...self,
    set(more) {
      Object.assign(options, more);
      draw();
    },
  };
}
