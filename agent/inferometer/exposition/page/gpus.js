/* One GPU as a small multiple: power against its limit, activity against all of it. */

import { element, set, tell } from "./nodes.js";
import { bytes, isThere, percent, plain, watts } from "./numbers.js";
import { Spark } from "./spark.js";

export class Gpu {
  constructor(uuid) {
    this.title = element("h3", { title: uuid });
    this.about = element("p", { class: "about" });
    this.power = element("span", { class: "value" });
    this.activity = element("span", { class: "value" });
    this.outOf = element("span", { class: "unit" });
    this.limit = null;
    this.powerSpark = new Spark("Power", watts, { tone: "power" });
    this.activitySpark = new Spark("Activity", percent, { tone: "work", top: 1 });
    this.activityTerm = element("dt", { text: "Activity" });
    const facts = element("dl", {}, element("dt", { text: "Power" }), element("dd", {}, this.power, this.outOf),
      element("dd", { class: "drawn" }, this.powerSpark.node), this.activityTerm, element("dd", {}, this.activity),
      element("dd", { class: "drawn" }, this.activitySpark.node));
    this.node = element("article", { class: "gpu", "data-gpu": uuid }, this.title, this.about, facts);
  }

  show(row) {
    this.limit = row.power_limit_watts;
    tell(this.title, `GPU ${row.index}${row.up ? "" : " (down)"}`);
    tell(this.about, said(row));
    tell(this.power, watts(row.power_watts));
    tell(this.outOf, isThere(this.limit) ? ` of ${watts(this.limit)}` : "");
    tell(this.activity, percent(row.activity_ratio));
    set(this.activityTerm, "title", row.activity_of);
    for (const [spark, what] of [[this.powerSpark, "Power"], [this.activitySpark, row.activity_of || "activity"]]) {
      spark.what = `GPU ${row.index}, ${what}`;
    }
  }

  draw(at, columns) {
    this.powerSpark.show(at, columns?.power_watts, { top: this.limit });
    this.activitySpark.show(at, columns?.activity_ratio);
  }
}

function said(row) {
  const parts = [row.name.replace("NVIDIA ", ""), row.workloads.join(", ") || "held by nobody"];
  if (row.instances > 0) parts.push(`${row.instances} MIG instances`);
  if (isThere(row.memory_used_bytes)) parts.push(`${bytes(row.memory_used_bytes)} used`);
  if (isThere(row.temperature_celsius)) parts.push(`${plain(row.temperature_celsius)} °C`);
  return parts.join(" · ");
}
