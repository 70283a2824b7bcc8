// A canvas of rows and columns that one can zoom into: by dragging, by keys, by buttons.

// options: label, columns: {low, high, least, label, write}, rows: {count, label, write}, height,
// paint(context, view): view has X, Y, x0, x1, y0, y1; describe(x, row): text; pick(x, row); hint
function plane(host, options) {
  const LEFT = 62,
    BOTTOM = 36,
    TOP = 4,
    RIGHT = 10;
  const canvas = element("canvas", { tabindex: 0, role: "img", "aria-label": options.label });
  const bar = element("div", { class: "controls" });
  host.append(bar, canvas);
  canvas.style.height = options.height + "px";
  const whole = {
    x0: options.columns.low,
    x1: options.columns.high,
    y0: 0,
    y1: options.rows.count,
  };
  let view = { ...whole },
    drag = null,
    cursor = null,
    box = { width: 0, height: 0 };

  const inner = () => ({ width: box.width - LEFT - RIGHT, height: box.height - TOP - BOTTOM });
  const X = x => LEFT + (inner().width * (x - view.x0)) / (view.x1 - view.x0);
  const Y = y => TOP + (inner().height * (y - view.y0)) / (view.y1 - view.y0);
  const column = left => view.x0 + ((left - LEFT) / inner().width) * (view.x1 - view.x0);
  const row = top => view.y0 + ((top - TOP) / inner().height) * (view.y1 - view.y0);

  function draw() {
    const dense = window.devicePixelRatio || 1;
    box = { width: canvas.clientWidth || 800, height: options.height };
    canvas.width = box.width * dense;
    canvas.height = box.height * dense;
    const context = canvas.getContext("2d"),
      { width, height } = inner();
    context.scale(dense, dense);
    context.fillStyle = colour("empty");
    context.fillRect(LEFT, TOP, width, height);
    context.save();
    context.beginPath();
    context.rect(LEFT, TOP, width, height);
    context.clip();
    options.paint(context, { ...view, X, Y });
    if (cursor) {
      context.strokeStyle = colour("ink");
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(X(cursor.x), TOP);
      context.lineTo(X(cursor.x), TOP + height);
      context.moveTo(LEFT, Y(cursor.row + 0.5));
      context.lineTo(LEFT + width, Y(cursor.row + 0.5));
      context.stroke();
    }
    if (drag && drag.x1 !== undefined) {
      context.fillStyle = colour("blue");
      context.globalAlpha = 0.2;
      context.fillRect(drag.x0, drag.y0, drag.x1 - drag.x0, drag.y1 - drag.y0);
    }
    context.restore();
    axes(context, width, height);
  }

  function axes(context, width, height) {
    context.fillStyle = colour("soft");
    context.strokeStyle = colour("line");
    context.font = '11px system-ui, "DejaVu Sans", sans-serif';
    context.textAlign = "center";
    for (const x of ticks(view.x0, view.x1, Math.max(2, width / 110))) {
      if (options.columns.whole && x % 1) continue;
      context.beginPath();
      context.moveTo(X(x), TOP + height);
      context.lineTo(X(x), TOP + height + 4);
      context.stroke();
      context.fillText(options.columns.write(x), X(x), TOP + height + 15);
    }
    context.fillText(options.columns.label, LEFT + width / 2, box.height - 4);
    context.textAlign = "right";
    const least = Math.max(1, 14 / (height / (view.y1 - view.y0)));
    for (const y of ticks(view.y0, view.y1 - 1e-6, Math.min(10, (view.y1 - view.y0) / least)))
      if (Number.isInteger(y) && y < view.y1 && y >= view.y0)
        context.fillText(
          options.rows.write(y),
          LEFT - 6,
          Math.min(TOP + height - 1, Y(y + 0.5) + 4),
        );
    context.save();
    context.translate(11, TOP + height / 2);
    context.rotate(-Math.PI / 2);
    context.textAlign = "center";
    context.fillText(options.rows.label, 0, 0);
    context.restore();
  }

  function look(next) {
    const least = { x: options.columns.least, y: Math.min(4, whole.y1) };
    for (const axis of ["x", "y"]) {
      const [low, high] = [whole[axis + 0], whole[axis + 1]];
      const size = Math.min(high - low, Math.max(least[axis], next[axis + 1] - next[axis + 0]));
      const from = Math.min(high - size, Math.max(low, next[axis + 0]));
      view[axis + 0] = from;
      view[axis + 1] = from + size;
    }
    draw();
  }
  function zoom(factor, x = (view.x0 + view.x1) / 2, y = (view.y0 + view.y1) / 2) {
    look({
      x0: x + (view.x0 - x) * factor,
      x1: x + (view.x1 - x) * factor,
      y0: y + (view.y0 - y) * factor,
      y1: y + (view.y1 - y) * factor,
    });
  }
  function pan(dx, dy) {
    const w = view.x1 - view.x0,
      h = view.y1 - view.y0;
    look({
      x0: view.x0 + dx * w,
      x1: view.x1 + dx * w,
      y0: view.y0 + dy * h,
      y1: view.y1 + dy * h,
    });
  }
  const reset = () => look(whole);

  const where = event => {
    const area = canvas.getBoundingClientRect();
    return { left: event.clientX - area.left, top: event.clientY - area.top };
  };
  const isInside = (x, r) =>
    x >= view.x0 && x <= view.x1 && r >= 0 && r < whole.y1 && r >= view.y0 && r <= view.y1;
  canvas.addEventListener("mousemove", event => {
    const { left, top } = where(event);
    if (drag) {
      Object.assign(drag, { x1: left, y1: top });
      draw();
      return;
    }
    const x = column(left),
      r = row(top);
    tell(isInside(x, r) ? options.describe(x, Math.floor(r)) : "", event.clientX, event.clientY);
  });
  canvas.addEventListener("mouseleave", () => tell(""));
  canvas.addEventListener("mousedown", event => {
    const { left, top } = where(event);
    drag = { x0: left, y0: top };
  });
  window.addEventListener("mouseup", event => {
    if (!drag) return;
    const was = drag;
    drag = null;
    if (was.x1 === undefined || Math.hypot(was.x1 - was.x0, was.y1 - was.y0) < 6) {
      const x = column(was.x0),
        r = row(was.y0);
      if (event.target === canvas && isInside(x, r)) options.pick(x, Math.floor(r));
      draw();
      return;
    }
    const [left, right] = [was.x0, was.x1].sort((a, b) => a - b),
      [top, bottom] = [was.y0, was.y1].sort((a, b) => a - b);
    look({ x0: column(left), x1: column(right), y0: row(top), y1: row(bottom) });
  });
  canvas.addEventListener("dblclick", reset);
  canvas.addEventListener(
    "wheel",
    event => {
      if (!event.ctrlKey && !event.metaKey && document.activeElement !== canvas) return; // the page scrolls
      event.preventDefault();
      const { left, top } = where(event);
      zoom(event.deltaY > 0 ? 1.2 : 1 / 1.2, column(left), row(top));
    },
    { passive: false },
  );
  canvas.addEventListener("blur", () => {
    cursor = null;
    tell("");
    draw();
  });
  canvas.addEventListener("keydown", event => {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[
      event.key
    ];
    const others = {
      "+": () => zoom(1 / 1.5),
      "=": () => zoom(1 / 1.5),
      "-": () => zoom(1.5),
      0: reset,
      Enter: () => cursor && (options.pick(cursor.x, cursor.row), draw()),
      Escape: () => {
        cursor = null;
        tell("");
        draw();
      },
    }[event.key];
    if (!arrows && !others) return;
    event.preventDefault();
    if (others) others();
    else if (event.shiftKey) pan(arrows[0] / 4, arrows[1] / 4);
    else move(...arrows);
  });
  function move(dx, dy) {
    const step = options.columns.whole
      ? Math.max(1, Math.round((view.x1 - view.x0) / 200))
      : (view.x1 - view.x0) / 200;
    cursor = cursor || {
      x: options.columns.whole
        ? Math.floor((view.x0 + view.x1) / 2) + 0.5
        : (view.x0 + view.x1) / 2,
      row: Math.floor((view.y0 + view.y1) / 2),
    };
    const jump = Math.max(1, Math.round((view.y1 - view.y0) / 100));
    cursor.x = Math.min(view.x1 - 1e-9, Math.max(view.x0, cursor.x + dx * step));
    cursor.row = Math.min(whole.y1 - 1, Math.max(0, cursor.row + dy * jump));
    if (cursor.row < view.y0 || cursor.row + 1 > view.y1) pan(0, dy / 2);
    draw();
    const area = canvas.getBoundingClientRect();
    tell(options.describe(cursor.x, cursor.row), area.left + X(cursor.x), area.top + Y(cursor.row));
  }

  const button = (text, label, action) => {
    const made = element("button", { type: "button", "aria-label": label, title: label }, text);
    made.addEventListener("click", action);
    return made;
  };
  const buttons = element(
    "span",
    { class: "push" },
    button("+", "zoom in (+)", () => zoom(1 / 1.5)),
    " ",
    button("−", "zoom out (−)", () => zoom(1.5)),
    " ",
    button("all", "show all (0)", reset),
  );
  bar.append(buttons);
  host.append(element("p", { class: "note" }, options.hint));
  draw();
  redraws.push(draw);
  return { bar, buttons, draw };
}

// a request that was clicked stays bright, here and there
const pinned = { name: null, listeners: [] };
function pin(name) {
  pinned.name = pinned.name === name ? null : name;
  for (const listener of pinned.listeners) listener();
}
const HINT =
  "Drag to zoom into a rectangle, double-click to see all; click a request to follow it, here and in the other picture. " +
  "Keys: arrows move, Shift and arrows scroll, + − 0 zoom, Enter follows. The wheel zooms when the picture has the focus.";
