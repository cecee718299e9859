/* The last hour as this page knows it: what the agent remembers, and what the page saw before the agent restarted. */

const HOUR_SECONDS = 3600;
const TABLES = ["workloads", "gpus"];

export class Hour {
  constructor() {
    this.at = [];
    this.workloads = {};
    this.gpus = {};
  }

  get until() {
    return this.at.at(-1) ?? 0;
  }

  /* Fetch the points after those that are here; a clock that was set back starts anew. */
  async follow(until) {
    if (until < this.until) Object.assign(this, new Hour());
    const response = await fetch(`api/v1/history?since=${this.until}`, { signal: AbortSignal.timeout(10000) });
    if (response.ok) this.add(await response.json());
  }

  add(fresh) {
    const at = [...this.at, ...fresh.at];
    const from = at.findIndex((time) => time > at.at(-1) - HOUR_SECONDS);
    for (const table of TABLES) this[table] = this.joined(this[table], fresh[table], fresh.at.length, from);
    this.at = at.slice(from);
  }

  /* Rows of both, with nothing where one of them has none. */
  joined(old, fresh, count, from) {
    const rows = Object.create(null); // a workload may be called __proto__
    for (const row of new Set([...Object.keys(old), ...Object.keys(fresh)])) {
      rows[row] = {};
      for (const column of Object.keys(fresh[row] ?? old[row])) {
        const before = old[row]?.[column] ?? Array(this.at.length).fill(null);
        const after = fresh[row]?.[column] ?? Array(count).fill(null);
        rows[row][column] = [...before, ...after].slice(from);
      }
    }
    return rows;
  }
}
