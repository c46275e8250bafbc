// Charts on a canvas: parity plots (one canvas for any number of points) and learning curves.

const INK = "#1d2733";
const GREY = "#56616d";
const ALL = "all";
const LINE = 15; // px between lines of text

const number = (value, digits) => {
  if (value === null || value === undefined) return "not a number";
  return value.toFixed(digits).replace("-", "−");
};
const signed = (value) => {
  const text = Math.abs(value) >= 1000 ? value.toFixed(0) : Number(value.toPrecision(3)).toString();
  return (value > 0 ? "+" : "") + text.replace("-", "−");
};
const tickText = (value) => Number(value.toPrecision(6)).toString().replace("-", "−");

const linearTicks = (low, high) => {
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough * 0.999);
  const ticks = [];
  for (let k = Math.ceil(low / step); k * step <= high + 1e-9 * step; k += 1) ticks.push(k * step);
  return ticks;
};

const logTicks = (low, high) => {
  const decades = Math.log10(high / low);
  const leading = decades > 2.5 ? [1] : decades > 0.8 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9];
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    ticks.push(...leading.map((k) => k * 10 ** power));
  }
  return ticks.filter((tick) => tick >= low && tick <= high);
};

const scale = (low, high, from, to, isLog) => {
  const along = isLog ? Math.log : (v) => v;
  const slope = (to - from) / (along(high) - along(low));
  return (value) => from + slope * (along(Math.min(Math.max(value, low), high)) - along(low));
};

// Limits from the reference alone, so that one wild prediction does not shrink everything else; the same for all
// panels of a quantity, so that they can be compared.
const scatterLimits = (panel, panels) => {
  let [low, high] = [Infinity, -Infinity];
  for (const value of panels.filter((other) => other.axes.x === panel.axes.x).flatMap((other) => other.x)) {
    if (value !== null) [low, high] = [Math.min(low, value), Math.max(high, value)];
  }
  if (low > high) [low, high] = [0, 1];
  const margin = 0.06 * (high - low) || 0.5;
  return { x: [low - margin, high + margin], y: [low - margin, high + margin] };
};

const curveLimits = (panel) => {
  const spread = (values, margin) => {
    const known = values.filter((v) => v !== null && v > 0);
    if (known.length === 0) return [1, 10];
    return [Math.min(...known) / margin, Math.max(...known) * margin];
  };
  const lines = panel.lines;
  return { x: spread(lines.flatMap((l) => l.x), 1.15), y: spread(lines.flatMap((l) => [...l.low, ...l.high]), 1.12) };
};

// Marks are what can be pointed at: {name, x, y, error} and where they are.
const scatterMarks = (panel, names) => {
  const marks = [];
  for (let i = 0; i < panel.x.length; i += 1) {
    for (const name of names) {
      const [x, y] = [panel.x[i], panel.y[name]?.[i]];
      if (x !== null && typeof y === "number") marks.push({ name, i, x, y, error: Math.abs(y - x) });
    }
  }
  return marks;
};

const curveMarks = (panel, names) => panel.lines.filter((line) => names.includes(line.name)).flatMap((line) =>
  line.x.map((x, i) => ({ name: line.name, line, i, x, y: line.y[i], error: line.y[i] }))
    .filter((mark) => mark.y > 0));

const scatterText = (data, panel, mark, names) => {
  const { unit, digits, error_unit: errorUnit, error_scale: errorScale } = panel.axes;
  const lines = data.owners[panel.owner[mark.i]].split("\n");
  if (panel.item) lines.push(`atom ${Math.floor(panel.item[mark.i] / 3)}, ${"xyz"[panel.item[mark.i] % 3]}`);
  lines.push(`reference ${number(mark.x, digits)} ${unit}`);
  lines.push(`${mark.name} ${number(mark.y, digits)} ${unit}`);
  lines.push(`error ${signed((mark.y - mark.x) * errorScale)} ${errorUnit || unit}`);
  for (const other of names.filter((name) => name !== mark.name && panel.y[name]?.[mark.i] != null)) {
    lines.push(`${other} ${signed((panel.y[other][mark.i] - mark.x) * errorScale)}`);
  }
  return lines;
};

const curveText = (data, panel, mark) => {
  const { line, i } = mark;
  const value = (v) => Number(v.toPrecision(4)).toString();
  const lines = [`${line.name}, ${line.part}`, `${line.x[i]} ${panel.axes.x}`, `${value(line.y[i])} ${panel.axes.unit}`];
  if (line.high[i] > line.low[i]) lines.push(`${value(line.low[i])} to ${value(line.high[i])} over the seeds`);
  return lines;
};

const KINDS = {
  scatter: { limits: scatterLimits, marks: scatterMarks, text: scatterText, isLog: false, ratio: 1 },
  curves: { limits: curveLimits, marks: curveMarks, text: curveText, isLog: true, ratio: 0.72 },
};

class Chart {
  constructor(holder) {
    this.data = JSON.parse(document.getElementById(holder.dataset.chart).textContent);
    this.kind = KINDS[this.data.kind];
    this.holder = holder;
    this.choice = [...this.data.start];
    const names = this.data.names.values;
    this.name = names.length > 1 && this.data.kind === "curves" ? ALL : names[0];
    this.canvas = make("canvas", { tabindex: "0", role: "img" });
    this.tip = make("div", { class: "tip", role: "status", "aria-live": "polite", hidden: "" });
    this.note = make("p", { class: "note" });
    holder.querySelector(".plot").append(this.canvas, this.tip);
    holder.querySelector(".plot").after(this.note);
    this.menus(holder.querySelector(".tools"));
    this.listen();
    holder.hidden = false;
    this.update();
    new ResizeObserver(() => this.draw()).observe(holder);
  }

  menus(tools) {
    const { menus, names, colors } = this.data;
    const choose = (k) => (value) => { this.choice[k] = value; };
    const fields = menus.map((menu, k) => this.menu(menu, this.choice[k], choose(k), {}));
    const values = names.values.length > 1 ? [...names.values, ALL] : names.values;
    fields.splice(1, 0, this.menu({ name: names.name, values }, this.name, (v) => { this.name = v; }, colors));
    tools.append(...fields.filter((field) => field.querySelectorAll("input").length > 1));
  }

  menu(menu, current, choose, colors) {
    const group = `${this.holder.dataset.chart}-${menu.name}`;
    const field = make("fieldset", {}, make("legend", {}, menu.name));
    for (const value of menu.values) {
      const input = make("input", { type: "radio", name: group, value, autocomplete: "off" });
      input.checked = value === current;
      input.addEventListener("change", () => { choose(value); this.update(); });
      const label = make("label", {}, input);
      if (colors[value]) {
        const swatch = make("i", {});
        swatch.style.background = colors[value];
        label.append(swatch);
      }
      label.append(make("span", {}, value));
      field.append(label);
    }
    return field;
  }

  update() {
    const { panels, names } = this.data;
    const shown = this.name === ALL ? names.values : [this.name];
    this.panel = panels.find((panel) => panel.choice.every((value, k) => value === this.choice[k]));
    this.shown = shown;
    this.limits = this.panel ? this.kind.limits(this.panel, panels) : null;
    this.marks = this.panel ? this.kind.marks(this.panel, shown) : [];
    this.ranked = [...this.marks].sort((a, b) => b.error - a.error);
    const found = new Set(this.marks.map((mark) => mark.name));
    const absent = shown.filter((name) => !found.has(name)).map((name) => `${name}: nothing at this setting`);
    this.note.replaceChildren();
    for (const line of [...(this.panel?.caption ? [this.panel.caption] : []), ...absent]) {
      this.note.append(line, make("br"));
    }
    const setting = [this.name, ...this.choice].join(", ");
    const keys = "Arrow keys go through the points, from the largest value or error on.";
    this.canvas.setAttribute("aria-label", `${this.data.kind === "scatter" ? "Parity plot" : "Curves"}: ${setting}. ${keys}`);
    this.canvas.dataset.points = this.marks.length;
    this.select(null);
    this.draw();
  }

  draw() {
    const width = Math.min(this.holder.clientWidth, 560);
    if (width < 50) return; // in print
    const height = Math.round(width * this.kind.ratio);
    const dense = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * dense);
    this.canvas.height = Math.round(height * dense);
    this.canvas.style.width = `${width}px`;
    this.canvas.style.height = `${height}px`;
    const pen = this.canvas.getContext("2d");
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "12px system-ui, sans-serif";
    if (!this.panel) return;
    this.frame(pen, width, height);
    if (this.data.kind === "curves") this.drawLines(pen); else this.drawPoints(pen);
    if (this.selected) this.ring(pen, this.selected);
  }

  frame(pen, width, height) {
    const limits = this.limits;
    const isLog = this.kind.isLog;
    const ticks = isLog ? logTicks : linearTicks;
    const yTicks = ticks(...limits.y);
    const xTicks = isLog ? [...new Set(this.panel.lines.flatMap((line) => line.x))] : ticks(...limits.x);
    const left = 26 + Math.max(...yTicks.map((tick) => pen.measureText(tickText(tick)).width), 10);
    const box = { left, right: width - 10, top: 8, bottom: height - 40 };
    this.toX = scale(...limits.x, box.left, box.right, isLog);
    this.toY = scale(...limits.y, box.bottom, box.top, isLog);
    pen.lineWidth = 1;
    for (const tick of yTicks) this.rule(pen, [box.left, this.toY(tick)], [box.right, this.toY(tick)]);
    for (const tick of xTicks) this.rule(pen, [this.toX(tick), box.top], [this.toX(tick), box.bottom]);
    pen.strokeStyle = INK;
    pen.beginPath();
    pen.moveTo(box.left, box.top);
    pen.lineTo(box.left, box.bottom);
    pen.lineTo(box.right, box.bottom);
    if (!isLog) {
      pen.moveTo(box.left, box.bottom);
      pen.lineTo(box.right, box.top);
    }
    pen.stroke();
    this.texts(pen, { box, xTicks, yTicks });
  }

  rule(pen, from, to) {
    pen.strokeStyle = "#e3e6ea";
    pen.beginPath();
    pen.moveTo(...from);
    pen.lineTo(...to);
    pen.stroke();
  }

  texts(pen, { box, xTicks, yTicks }) {
    pen.fillStyle = GREY;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const tick of yTicks) pen.fillText(tickText(tick), box.left - 5, this.toY(tick));
    pen.textAlign = "center";
    pen.textBaseline = "top";
    let free = -Infinity; // no label over its neighbour
    for (const tick of [...xTicks].sort((a, b) => a - b)) {
      const half = pen.measureText(tickText(tick)).width / 2;
      const middle = Math.min(this.toX(tick), box.right + 8 - half);
      if (middle - half > free) {
        pen.fillText(tickText(tick), middle, box.bottom + 5);
        free = middle + half + 6;
      }
    }
    pen.fillStyle = INK;
    pen.fillText(this.panel.axes.x, (box.left + box.right) / 2, box.bottom + 22);
    pen.save();
    pen.translate(2, (box.top + box.bottom) / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText(this.panel.axes.y, 0, 0);
    pen.restore();
    this.legend(pen, box);
  }

  legend(pen, box) {
    if (this.data.kind === "curves") return;
    pen.textAlign = "left";
    pen.textBaseline = "top";
    this.shown.filter((name) => this.panel.notes[name]).forEach((name, k) => {
      pen.fillStyle = this.shown.length > 1 ? this.data.colors[name] : INK;
      pen.fillText(`${this.shown.length > 1 ? `${name} ` : ""}${this.panel.notes[name]}`, box.left + 8, box.top + 4 + k * LINE);
    });
  }

  drawPoints(pen) {
    const radius = this.marks.length > 3000 ? 1.6 : this.marks.length > 400 ? 2.4 : 3.6;
    pen.globalAlpha = this.marks.length > 400 ? 0.45 : 0.75;
    for (const mark of this.marks) {
      pen.fillStyle = this.data.colors[mark.name];
      pen.beginPath();
      pen.arc(this.toX(mark.x), this.toY(mark.y), radius, 0, 2 * Math.PI);
      pen.fill();
    }
    pen.globalAlpha = 1;
  }

  drawLines(pen) {
    for (const line of this.panel.lines.filter((one) => this.shown.includes(one.name))) {
      const color = this.data.colors[line.name];
      const along = (values) => line.x.map((x, i) => [this.toX(x), this.toY(values[i])]);
      if (!line.dashed) this.area(pen, [...along(line.low), ...along(line.high).reverse()], color);
      pen.strokeStyle = color;
      pen.lineWidth = 1.8;
      pen.setLineDash(line.dashed ? [5, 4] : []);
      pen.beginPath();
      along(line.y).forEach((place) => pen.lineTo(...place));
      pen.stroke();
      pen.setLineDash([]);
      for (const place of along(line.y)) {
        pen.beginPath();
        pen.arc(...place, 3.6, 0, 2 * Math.PI);
        pen.fillStyle = line.dashed ? "#fff" : color;
        pen.fill();
        pen.stroke();
      }
    }
  }

  area(pen, corners, color) {
    pen.globalAlpha = 0.14;
    pen.fillStyle = color;
    pen.beginPath();
    corners.forEach((corner) => pen.lineTo(...corner));
    pen.fill();
    pen.globalAlpha = 1;
  }

  ring(pen, mark) {
    pen.strokeStyle = INK;
    pen.lineWidth = 1.6;
    pen.beginPath();
    pen.arc(this.toX(mark.x), this.toY(mark.y), 6, 0, 2 * Math.PI);
    pen.stroke();
  }

  nearest(x, y, reach) {
    let [best, found] = [reach * reach, null];
    for (const mark of this.marks) {
      const distance = (this.toX(mark.x) - x) ** 2 + (this.toY(mark.y) - y) ** 2;
      if (distance <= best) [best, found] = [distance, mark];
    }
    return found;
  }

  select(mark) {
    this.selected = mark;
    this.tip.hidden = !mark;
    if (!mark) return;
    const lines = this.kind.text(this.data, this.panel, mark, this.shown);
    this.tip.replaceChildren(...lines.map((line, k) => make(k === 0 ? "strong" : "div", {}, line)));
    const [x, y] = [this.toX(mark.x), this.toY(mark.y)];
    const room = this.canvas.clientWidth - this.tip.offsetWidth;
    this.tip.style.left = `${Math.max(0, Math.min(x + 12 <= room ? x + 12 : x - this.tip.offsetWidth - 12, room))}px`;
    const above = y - this.tip.offsetHeight - 12;
    this.tip.style.top = `${above >= 0 ? above : y + 14}px`;
  }

  show(mark) {
    if (mark === this.selected) return;
    this.select(mark);
    this.draw();
  }

  listen() {
    const at = (event) => {
      const reach = event.pointerType === "touch" ? 24 : 12;
      this.show(this.nearest(event.offsetX, event.offsetY, reach));
    };
    this.canvas.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") at(event); });
    this.canvas.addEventListener("pointerup", at); // a tap; a swipe scrolls the page and ends in pointercancel
    this.canvas.addEventListener("pointerleave", (event) => { if (event.pointerType !== "touch") this.show(null); });
    this.canvas.addEventListener("blur", () => this.show(null));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("focus", () => {
      if (this.canvas.matches(":focus-visible")) this.show(this.ranked[0] || null);
    });
  }

  key(event) {
    const place = this.ranked.indexOf(this.selected);
    const last = this.ranked.length - 1;
    const next = {
      ArrowRight: Math.min(place + 1, last), ArrowDown: Math.min(place + 1, last),
      ArrowLeft: Math.max(place - 1, 0), ArrowUp: Math.max(place - 1, 0), Home: 0, End: last, Escape: -1,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.show(this.ranked[next] || null);
  }
}

document.querySelectorAll(".chart").forEach((holder) => new Chart(holder));
