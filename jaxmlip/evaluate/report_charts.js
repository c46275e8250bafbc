// What a chart shows, and how it answers: menus, pointer, touch and keys.

const ALL = "all";

const number = (value, digits) => {
  if (value === null || value === undefined) return "not a number";
  return value.toFixed(digits).replace("-", "−");
};
const signed = (value) => {
  const text = Math.abs(value) >= 1000 ? value.toFixed(0) : Number(value.toPrecision(3)).toString();
  return (value > 0 ? "+" : "") + text.replace("-", "−");
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
    lines.push(`${other}: error ${signed((panel.y[other][mark.i] - mark.x) * errorScale)}`);
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

class Chart extends Drawing {
  constructor(holder) {
    super();
    this.data = JSON.parse(document.getElementById(holder.dataset.chart).textContent);
    this.kind = KINDS[this.data.kind];
    this.holder = holder;
    this.choice = [...this.data.start];
    const names = this.data.names.values;
    this.name = names.length > 1 && this.data.kind === "curves" ? ALL : names[0];
    this.canvas = make("canvas", { tabindex: "0", role: "img" });
    this.tip = make("div", { class: "tip", role: "status", "aria-live": "polite", hidden: "" });
    this.note = make("p", { class: "note" });
    this.plot = holder.querySelector(".plot");
    this.plot.append(this.canvas, this.tip);
    this.plot.after(this.note);
    this.menus(holder.querySelector(".tools"));
    this.listen();
    holder.hidden = false;
    this.update();
    new ResizeObserver(() => { this.select(null); this.draw(); }).observe(this.plot);
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
