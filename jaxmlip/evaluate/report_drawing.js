// How a chart is drawn: one canvas for any number of points. `Chart` decides what: panel, limits, marks, names shown.

const INK = "#1d2733";
const GREY = "#56616d";
const LINE = 15; // px between lines of text

const tickText = (value) => Number(value.toPrecision(6)).toString().replace("-", "−");

const linearTicks = (low, high) => {
  const rough = (high - low) / 5;
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

class Drawing {
  draw() {
    const width = Math.min(this.plot.clientWidth, 560);
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
    let last = Infinity; // no label over its neighbour
    for (const tick of yTicks) {
      if (last - this.toY(tick) < LINE) continue;
      last = this.toY(tick);
      pen.fillText(tickText(tick), box.left - 5, last);
    }
    pen.textAlign = "center";
    pen.textBaseline = "top";
    let free = -Infinity;
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
      const text = `${this.shown.length > 1 ? `${name} ` : ""}${this.panel.notes[name]}`;
      const top = box.top + 4 + k * LINE;
      pen.fillStyle = "rgba(255, 255, 255, .85)";
      pen.fillRect(box.left + 5, top - 2, pen.measureText(text).width + 6, LINE);
      pen.fillStyle = this.shown.length > 1 ? this.data.colors[name] : INK;
      pen.fillText(text, box.left + 8, top);
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
}
