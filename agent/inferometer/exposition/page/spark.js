/* A sparkline: one line, or a band between two, over the last hour or as much of it as there is. */

import { element, set, tell } from "./nodes.js";
import { clock, duration, isThere, range } from "./numbers.js";

const SVG = "http://www.w3.org/2000/svg";

function shape(tag, className) {
  const node = document.createElementNS(SVG, tag);
  node.setAttribute("class", className);
  return node;
}

/* Stretches without a gap, as lists of indices. */
function stretches(values) {
  const found = [];
  values.forEach((value, index) => {
    if (!isThere(value)) return;
    if (index === 0 || !isThere(values[index - 1])) found.push([]);
    found.at(-1).push(index);
  });
  return found;
}

const point = ([x, y]) => `${x.toFixed(1)} ${y.toFixed(1)}`;

export class Spark {
  /* what: of what the line is, for the screen reader; format: of a value; top: of the scale, else that of the data. */
  constructor(what, format, { top = null, tone = "" } = {}) {
    Object.assign(this, { what, format, top, at: [], upper: [], lower: null, part: null });
    this.svg = shape("svg", `spark ${tone}`);
    this.svg.setAttribute("role", "img");
    this.area = shape("path", "area");
    this.line = shape("path", "line");
    this.cursor = shape("path", "cursor");
    this.apart = shape("path", "apart");
    this.svg.append(this.area, this.apart, this.line, this.cursor);
    this.caption = element("p", { class: "caption" });
    this.node = element("div", { class: "sparkline" }, this.svg, this.caption);
    this.svg.addEventListener("pointermove", (event) => this.pick(event));
    this.svg.addEventListener("pointerleave", () => this.unpick());
    new ResizeObserver(() => this.draw()).observe(this.svg);
  }

  /* lower: of a band, else null; part: of the area below the line that is shown apart, else null. */
  show(at, upper, { lower = null, part = null, top = this.top } = {}) {
    Object.assign(this, { at, upper: upper ?? [], lower, part, top });
    this.draw();
  }

  draw() {
    const [width, height] = [this.svg.clientWidth || 200, this.svg.clientHeight || 44];
    set(this.svg, "viewBox", `0 0 ${width} ${height}`);
    const there = [...this.upper, ...(this.lower ?? [])].filter(isThere);
    const [first, last] = [this.at[0] ?? 0, this.at.at(-1) ?? 1];
    const scale = this.top ?? (Math.max(...there, 0) * 1.15 || 1);
    const x = (index) => (last > first ? ((this.at[index] - first) / (last - first)) * (width - 4) + 2 : width - 2);
    const y = (value) => height - 2 - (Math.min(value, scale) / scale) * (height - 6);
    this.place = { x, height, span: last - first };
    const lines = stretches(this.upper).map((run) => run.map((index) => [x(index), y(this.upper[index])]));
    const bottoms = stretches(this.upper).map((run) => run.map((index) => [x(index), this.lower ? y(this.lower[index] ?? 0) : height]));
    set(this.line, "d", [...lines, ...(this.lower ? bottoms : [])].map((run) => `M${run.map(point).join("L")}h.01`).join(""));
    set(this.area, "d", lines.map((run, number) => `M${[...run, ...bottoms[number].toReversed()].map(point).join("L")}Z`).join(""));
    const floor = (run) => [[x(run.at(-1)), height], [x(run[0]), height]];
    const parts = stretches(this.part ?? []).map((run) => [...run.map((index) => [x(index), y(this.part[index])]), ...floor(run)]);
    set(this.apart, "d", parts.map((run) => `M${run.map(point).join("L")}Z`).join(""));
    this.say(there);
  }

  say(there) {
    const seen = there.length > 0 ? range(Math.min(...there), Math.max(...there), this.format) : "no point yet";
    this.summary = there.length > 1 ? `${seen} in ${duration(Math.round(this.place.span))}` : seen;
    set(this.svg, "aria-label", `${this.what}: ${this.summary}`);
    if (!this.picked) tell(this.caption, this.summary);
  }

  pick(event) {
    if (this.at.length === 0) return;
    const x = event.clientX - this.svg.getBoundingClientRect().left;
    const distance = (index) => Math.abs(this.place.x(index) - x);
    const nearest = this.at.reduce((best, _, index) => (distance(index) < distance(best) ? index : best), 0);
    const upper = this.upper[nearest];
    this.picked = true;
    set(this.cursor, "d", `M${this.place.x(nearest).toFixed(1)} 0V${this.place.height}`);
    tell(this.caption, `${clock(this.at[nearest])}: ${range(this.lower?.[nearest] ?? upper, upper, this.format)}`);
  }

  unpick() {
    this.picked = false;
    set(this.cursor, "d", "");
    tell(this.caption, this.summary);
  }
}
