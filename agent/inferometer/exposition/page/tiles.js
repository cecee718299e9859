/* What one workload costs and does: five tiles, each with its number, how that was made, and its last hour. */

import { element, explain, set, tell } from "./nodes.js";
import { duration, isThere, joules, money, NONE, percent, plain, range, steady, watts } from "./numbers.js";
import { Spark } from "./spark.js";

/* of: numbers of the window, c: currency. `made` names the provenance; `spark` the columns of the history. */
const TILES = [
  {
    name: "cost", title: "A million tokens cost", made: "cost",
    value: (of, c) => money(of.cost_per_million_all, c), unit: "all tokens",
    second: (of, c) => money(of.cost_per_million_output, c), secondUnit: "output tokens alone",
    note: (of) => (isThere(of.cost_per_million_all) ? "The whole bill, idle time included" : "No tokens or no price in this window"),
    spark: ["cost_per_million_all"], tone: "money", format: money,
  },
  {
    name: "goodput", title: "Good requests", made: "goodput", bar: true,
    value: (of) => range(of.goodput_ratio_lower, of.goodput_ratio_upper, percent),
    note: (of) => (isThere(of.goodput_per_second_lower)
      ? `${range(of.goodput_per_second_lower, of.goodput_per_second_upper, steady)} good requests a second`
      : "No request was judged in this window"),
    spark: ["goodput_ratio_upper", "goodput_ratio_lower"], tone: "good", format: percent, top: 1,
  },
  {
    name: "joules", title: "Energy per token", made: "joules",
    value: (of) => joules(of.joules_per_token),
    note: (of) => (isThere(of.power_watts)
      ? `${joules(of.joules_per_output_token)} per output token, at ${watts(of.power_watts)}`
      : "No energy meter seen"),
    spark: ["joules_per_token"], tone: "power", format: joules,
  },
  {
    name: "hourly", title: "Money per hour", made: "cost", bar: true,
    value: (of, c) => money(of.money_per_hour, c),
    note: (of, c) => (isThere(of.idle_ratio)
      ? `${percent(of.idle_ratio)} of it idle: ${money(of.idle_ratio * of.money_per_hour, c)} an hour`
      : "Nothing was spent in this window"),
    spark: ["money_per_hour"], tone: "money", format: money, part: "idle_ratio",
  },
  {
    name: "tokens", title: "Tokens per second", made: "tokens",
    value: (of) => plain(of.tokens_per_second, 4),
    note: (of) => (isThere(of.busy_ratio) ? `GPUs busy ${percent(of.busy_ratio)} of the time held` : "No GPU time held"),
    spark: ["tokens_per_second"], tone: "work", format: (value) => plain(value, 4),
  },
];

const LEAST_PERCENT = 1.5;

/* The word that says how a number was made; the sentence is its title and opens on a click, a tap or Enter. */
class Badge {
  constructor(about) {
    this.word = element("summary");
    this.why = element("p");
    this.node = element("details", { class: "made" }, this.word, this.why);
    this.about = about;
  }

  show({ how, why }) {
    tell(this.word, how);
    explain(this.why, why);
    set(this.node, "data-how", how);
    set(this.word, "title", why);
    set(this.word, "aria-label", `${this.about}: ${how}. How it was made`);
  }
}

/* A bar from 0 to 1 of which a part is filled: idle money, or the band in which goodput is. */
class Bar {
  constructor(tone) {
    this.part = document.createElement("i");
    this.node = element("div", { class: `bar ${tone}`, "aria-hidden": "true" }, this.part);
  }

  show(from, to) {
    this.node.hidden = !isThere(from) || !isThere(to);
    if (this.node.hidden) return;
    const width = Math.max(100 * (to - from), LEAST_PERCENT);
    this.part.style.left = `${Math.min(100 * from, 100 - width)}%`;
    this.part.style.width = `${from === 0 ? 100 * to : width}%`;
  }
}

class Tile {
  constructor(workload, spec) {
    this.spec = spec;
    this.currency = "USD";
    this.value = element("span", { class: "value", "data-number": spec.name });
    this.second = element("span", { class: "value", "data-number": `${spec.name}-second` });
    this.note = element("p", { class: "note" });
    this.badge = new Badge(spec.title);
    this.bar = new Bar(spec.name === "hourly" ? "idle" : "good");
    this.spark = new Spark(`${spec.title}, ${workload}`, (value) => spec.format(value, this.currency), spec);
    const values = element("p", { class: "values" }, element("span", { class: "pair" }, this.value, this.unit(spec.unit)));
    if (spec.second) values.append(element("span", { class: "pair" }, this.second, this.unit(spec.secondUnit)));
    const head = element("div", { class: "tile-head" }, element("h3", { text: spec.title }), this.badge.node);
    this.node = element("article", { class: `tile ${spec.name}` }, head, values, this.note);
    if (spec.bar) this.node.insertBefore(this.bar.node, this.note);
    this.node.append(this.spark.node);
  }

  unit(text) {
    return text ? element("span", { class: "unit", text: ` ${text}` }) : "";
  }

  show(numbers, made, currency) {
    this.currency = currency;
    const missing = made[this.spec.made].how === "missing";
    tell(this.value, this.spec.value(numbers, currency));
    if (this.spec.second) tell(this.second, this.spec.second(numbers, currency));
    explain(this.note, missing ? made[this.spec.made].why : this.spec.note(numbers, currency));
    set(this.node, "data-missing", String(missing));
    this.badge.show(made[this.spec.made]);
    if (this.spec.name === "goodput") this.bar.show(numbers.goodput_ratio_lower, numbers.goodput_ratio_upper);
    if (this.spec.name === "hourly") this.bar.show(isThere(numbers.idle_ratio) ? 0 : null, numbers.idle_ratio);
  }

  draw(at, columns) {
    const [upper, lower] = this.spec.spark.map((column) => columns?.[column]);
    const share = columns?.[this.spec.part];
    const part = share && upper ? upper.map((value, place) => (isThere(value) ? value * (share[place] ?? 0) : null)) : null;
    this.spark.show(at, upper, { lower: lower ?? null, part });
  }
}

export class Workload {
  constructor(name) {
    const id = `workload-${encodeURIComponent(name)}`;
    this.about = element("p", { class: "about" });
    this.tiles = TILES.map((spec) => new Tile(name, spec));
    const head = element("div", { class: "workload-head" }, element("h2", { id, text: name }), this.about);
    const grid = element("div", { class: "tiles" }, ...this.tiles.map((tile) => tile.node));
    this.node = element("section", { class: "workload", "aria-labelledby": id, "data-workload": name }, head, grid);
  }

  show(row, window, currency) {
    tell(this.about, about(row));
    for (const tile of this.tiles) tile.show(row.windows[window] ?? {}, row.made, currency);
  }

  draw(at, columns) {
    for (const tile of this.tiles) tile.draw(at, columns);
  }
}

function about(row) {
  const up = row.engines.filter((engine) => engine.up);
  const kinds = [...new Set(row.engines.map((engine) => engine.kind).filter(Boolean))];
  const stalled = row.engines.filter((engine) => engine.state === "stalled").length;
  const limits = Object.entries(row.slo_seconds).map(([slo, limit]) => `${slo.toUpperCase()} ≤ ${duration(limit)}`);
  const said = [];
  if (row.engines.length > 0) said.push(`${up.length} of ${row.engines.length} ${row.engines.length === 1 ? "engine" : "engines"} up${kinds.length ? ` (${kinds.join(", ")})` : ""}`);
  if (stalled > 0) said.push(`${stalled} stalled`);
  if (limits.length > 0) said.push(`good means ${limits.join(", ")}`);
  return said.join(" · ") || NONE;
}
