// Charts of the last minutes: how long, how many, how much of the processor; a line for each node.

import { chart } from "./chart.js";
import { el, keep, say } from "./dom.js";
import { swatch } from "./overview.js";
import { colourOf, history, known, newest } from "./state.js";
import { number, took } from "./words.js";

const CHARTS = [
  ["Puts: p99", "put_p99", took], ["Puts: median", "put_p50", took],
  ["Gets that nodes coordinate: p99", "get_p99", took], ["A turn of the loop: p99", "turn_p99", took],
  ["Puts a second", "puts", (value) => number(value)], ["Copies read a second", "fetches", (value) => number(value)],
  ["Errors a second", "failed", (value) => number(value)], ["Processor", "cpu", (value) => `${value.toFixed(value < 10 ? 1 : 0)} %`],
];

export function latencyView() {
  const legend = el("div", { class: "row" });
  const parts = CHARTS.map(([title, key, unit]) => ({ key, node: chart(title, unit), title }));
  const node = el("section", { "aria-label": "Latency" }, el("h2", null, "The last five minutes"),
    el("p", { class: "soft" }, "Counted since this page was opened. Latencies are those of the node that coordinates, within an eighth; puts and gets in whole milliseconds. The Python client coordinates its reads by itself: see the turns of the loop."), legend,
    el("div", { class: "split" }, parts.map(({ title, node: drawn }) => el("div", { class: "card" }, el("h3", null, title), drawn))));
  node.update = () => {
    const names = known.cluster.nodes.map(({ name }) => name);
    keep(legend, names, (name) => name, (name) => el("span", null, swatch(name), name, " ", el("span", { class: "soft" })),
      (item, name) => say(item.lastChild, newest(name)?.cpu !== undefined ? `${newest(name).cpu.toFixed(1)} % of a core` : ""));
    for (const { key, node: drawn } of parts) {
      drawn.show(names.map((name) => ({ name, kind: colourOf(name), points: (history.get(name) || []).map((point) => [point.at, point[key]]) })));
    }
  };
  return node;
}
