/* The live page: the board as it is pushed, the last hour as it is asked for. It speaks to the agent alone. */

import { Gpu } from "./gpus.js";
import { Hour } from "./hour.js";
import { element, explain, Parts, set, tell } from "./nodes.js";
import { clock, duration, NONE, seconds } from "./numbers.js";
import { Workload } from "./tiles.js";

const POLL_MS = 3000;
const LEAST_PATIENCE_MS = 10000;
const byId = (id) => document.getElementById(id);

const hour = new Hour();
const workloads = new Parts(byId("workloads"), (name) => new Workload(name));
const gpus = new Parts(byId("gpus"), (uuid) => new Gpu(uuid));
let board = null;
let seenAt = 0;
let fetching = false;

// -- what is shown

function chosen() {
  return document.querySelector("#windows input:checked")?.value ?? board.windows[0];
}

function showWindows() {
  const box = byId("windows");
  const there = [...box.querySelectorAll("input")].map((input) => input.value);
  if (there.join() === board.windows.join()) return;
  const kept = box.querySelector("input:checked")?.value ?? localStorage.getItem("window");
  const wanted = board.windows.includes(kept) ? kept : board.windows[0];
  box.querySelectorAll("label").forEach((label) => label.remove());
  for (const window of board.windows.toSorted((a, b) => seconds(a) - seconds(b))) {
    const input = element("input", { type: "radio", name: "window", value: window });
    input.checked = window === wanted;
    box.append(element("label", {}, input, element("span", { text: window })));
  }
  box.hidden = board.windows.length < 2;
}

function sourceRow(source) {
  const state = element("td");
  const cells = { state, read: element("td"), errors: element("td"), detail: element("td") };
  return { node: element("tr", {}, element("th", { scope: "row", text: source }), ...Object.values(cells)), cells };
}

function readIn(spent) {
  if (spent <= 0) return NONE;
  return spent < 1e-4 ? "< 0.1 ms" : duration(spent);
}

const sources = new Parts(byId("sources"), sourceRow);

function showSources() {
  sources.follow(board.sources.map((source) => source.source));
  for (const source of board.sources) {
    const { cells } = sources.get(source.source);
    const errors = Object.entries(source.errors).map(([reason, count]) => `${reason} ${count}`).join(", ");
    tell(cells.state, source.up ? "up" : "down");
    set(cells.state, "class", source.up ? "good" : "bad");
    tell(cells.read, readIn(source.read_seconds));
    tell(cells.errors, errors || NONE);
    tell(cells.detail, source.detail || NONE);
  }
  byId("sources-section").hidden = board.sources.length === 0;
}

function showHints() {
  const list = byId("hints");
  if (list.dataset.shown === board.hints.join("\n")) return;
  list.dataset.shown = board.hints.join("\n");
  list.replaceChildren(...board.hints.map(() => element("li")));
  board.hints.forEach((hint, place) => explain(list.children[place], hint));
  byId("hints-section").hidden = board.hints.length === 0;
}

/* Time that nobody's GPUs have is listed only where it costs something. */
function shown() {
  return board.workloads.filter((row) => row.engines.length > 0 || Object.values(row.windows).some((of) => of.money_per_hour > 0 || of.power_watts > 0));
}

function show() {
  showWindows();
  workloads.follow(shown().map((row) => row.name));
  for (const row of shown()) workloads.get(row.name).show(row, chosen(), board.currency);
  gpus.follow(board.gpus.map((row) => row.uuid));
  for (const row of board.gpus) gpus.get(row.uuid).show(row);
  byId("gpus-section").hidden = board.gpus.length === 0;
  showHints();
  showSources();
}

function draw() {
  for (const [name, part] of workloads.byName) part.draw(hour.at, hour.workloads[name]);
  for (const [uuid, part] of gpus.byName) part.draw(hour.at, hour.gpus[uuid]);
}

function say(state, text, more) {
  byId("state").dataset.state = state;
  document.body.dataset.state = state;
  tell(byId("status"), text);
  tell(byId("as-of"), more);
}

// -- what comes in

async function take(text) {
  board = JSON.parse(text);
  seenAt = Date.now();
  show();
  say("live", "Live", `as of ${clock(board.wall)}, read every ${duration(board.interval_seconds)}`);
  if (fetching || board.history_until === null || board.history_until === hour.until) return;
  fetching = true;
  try {
    await hour.follow(board.history_until);
    draw();
  } catch {
    // the agent went away between two answers: the next event asks again
  } finally {
    fetching = false;
  }
}

function lost() {
  const since = board === null ? "" : `These numbers are of ${clock(board.wall)}.`;
  say("lost", "The agent does not answer; trying again.", since);
}

/* Where no more listeners are taken, or something between cuts streams off, the page asks now and then. */
async function poll() {
  try {
    const response = await fetch("api/v1/board", { signal: AbortSignal.timeout(5000) });
    if (response.ok) await take(await response.text());
    else if (response.status !== 503) lost();
  } catch {
    lost();
  }
}

function listen() {
  const events = new EventSource("api/v1/events");
  events.addEventListener("message", (event) => take(event.data));
  events.addEventListener("error", () => {
    if (Date.now() - seenAt > POLL_MS) lost();
    if (events.readyState !== EventSource.CLOSED) return; // else the browser tries again by itself
    setTimeout(() => poll().finally(listen), POLL_MS);
  });
}

setInterval(() => {
  const patience = Math.max(LEAST_PATIENCE_MS, 3000 * (board?.interval_seconds ?? 0));
  if (board !== null && Date.now() - seenAt > patience) lost();
}, 1000);

byId("windows").addEventListener("change", () => {
  localStorage.setItem("window", chosen());
  if (board !== null) show();
});
listen();
