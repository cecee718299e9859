"use strict";

const PERIOD_MS = 3000;
const NONE = "–";
const byId = (id) => document.getElementById(id);
let shown = null;
let earlier = null;

function element(tag, text, className) {
  const node = document.createElement(tag);
  node.textContent = text;
  if (className) node.className = className;
  return node;
}

function read(tree, ...path) {
  let value = tree;
  for (const step of path) {
    if (value === null || value === undefined || !Object.hasOwn(value, step)) return null;
    value = value[step];
  }
  return value;
}

function plain(value, digits = 3) {
  if (value === null) return NONE;
  return new Intl.NumberFormat(undefined, { maximumSignificantDigits: digits }).format(value);
}

function percent(value) {
  return value === null ? NONE : `${plain(100 * value)} %`;
}

function money(value, currency) {
  return value === null ? NONE : `${plain(value, 4)} ${currency}`;
}

function range(lower, upper, format) {
  if (lower === null || upper === null) return NONE;
  return format(lower) === format(upper) ? format(lower) : `${format(lower)} … ${format(upper)}`;
}

function sum(tree) {
  return tree === null ? null : Object.values(tree).reduce((total, value) => total + value, 0);
}

/* Money per hour is the growth of the cost counter between two snapshots that this page saw. */
function hourly(name) {
  const now = read(shown, "workloads", name, "totals", "cost", "total");
  const then = read(earlier, "workloads", name, "totals", "cost", "total");
  if (now === null || then === null || shown.wall <= earlier.wall || now < then) return null;
  return ((now - then) / (shown.wall - earlier.wall)) * 3600;
}

function facts(name, workload, chosen) {
  const at = read(workload, "windows", chosen);
  const perMillion = (tokens) => money(read(at, "cost_per_million_tokens", tokens, "allocation"), shown.currency);
  const perSecond = (value) => `${plain(value)} /s`;
  const bounds = (metric, format) => range(read(at, `${metric}_lower`), read(at, `${metric}_upper`), format);
  return [
    ["Per million tokens, all", perMillion("all")],
    ["Per million tokens, output", perMillion("output")],
    ["Good requests", bounds("goodput_ratio", percent)],
    ["Goodput", bounds("goodput_requests_per_second", perSecond)],
    ["Busy", percent(read(at, "busy_ratio"))],
    ["Tokens per second", plain(sum(read(at, "tokens_per_second")))],
    ["Power", read(at, "power_watts") === null ? NONE : `${plain(read(at, "power_watts"))} W`],
    ["Money per hour, now", money(hourly(name), shown.currency)],
    ["Money so far", money(read(workload, "totals", "cost", "total"), shown.currency)],
  ];
}

function card(name, workload, chosen) {
  const box = element("article", "", "card");
  const list = element("dl", "");
  for (const [term, value] of facts(name, workload, chosen)) list.append(element("dt", term), element("dd", value));
  box.append(element("h2", name), list);
  return box;
}

function sourceRow(source) {
  const row = element("tr", "");
  const errors = Object.entries(source.errors).map(([reason, count]) => `${reason} ${count}`).join(", ");
  row.append(
    element("td", source.source),
    element("td", source.up ? "up" : "down", source.up ? "good" : "bad"),
    element("td", source.read_seconds > 0 ? `${plain(1000 * source.read_seconds)} ms` : NONE),
    element("td", errors || NONE),
    element("td", source.detail),
  );
  return row;
}

function seconds(window) {
  const unit = { s: 1, m: 60, h: 3600, d: 86400 }[window.at(-1)];
  return Number.parseFloat(window) * (unit ?? 1);
}

/* The list is rebuilt only when the windows change, so that an open list stays open. */
function choice() {
  const select = byId("window");
  const names = new Set(Object.values(shown.workloads).flatMap((workload) => Object.keys(workload.windows)));
  const windows = [...names].sort((a, b) => seconds(a) - seconds(b));
  if (windows.join() !== [...select.options].map((option) => option.value).join()) {
    const kept = select.value;
    select.replaceChildren(...windows.map((window) => new Option(window, window)));
    if (windows.includes(kept)) select.value = kept;
  }
  return select.value;
}

function render() {
  const chosen = choice();
  const cards = Object.entries(shown.workloads).map(([name, workload]) => card(name, workload, chosen));
  byId("workloads").replaceChildren(...(cards.length ? cards : [element("p", "No workload has been read yet.")]));
  byId("hints").replaceChildren(...shown.hints.map((hint) => element("li", hint)));
  byId("hints-section").hidden = shown.hints.length === 0;
  byId("sources").replaceChildren(...shown.sources.map(sourceRow));
}

function say(text, bad) {
  byId("status").textContent = text;
  byId("status").className = bad ? "bad" : "";
}

async function refresh() {
  try {
    const response = await fetch("api/v1/snapshot?metrics=false", { signal: AbortSignal.timeout(10000) });
    if (!response.ok) throw new Error((await response.text()).trim());
    const snapshot = await response.json();
    if (shown === null || snapshot.wall !== shown.wall) [earlier, shown] = [shown, snapshot];
    render();
    say(`As of ${new Date(shown.wall * 1000).toLocaleTimeString()}`, false);
  } catch (error) {
    say(`No fresh numbers: ${error.message}`, true);
  } finally {
    setTimeout(refresh, PERIOD_MS);
  }
}

byId("window").addEventListener("change", () => shown && render());
refresh();
