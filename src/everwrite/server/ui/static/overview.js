// The first view: a verdict in a sentence, the figures behind it, and a line for each node.

import { dress, el, keep, put, say, table } from "./dom.js";
import { colourOf, known, newest, stateOf } from "./state.js";
import { ago, KINDS, number, SHAPES, size, took, verdict } from "./words.js";

export const swatch = (name) => el("span", { class: `swatch ${colourOf(name)}`, "aria-hidden": "true" });

export function stateCell(state) {
  return el("span", { class: `state ${KINDS[state] || ""}` }, `${SHAPES[state] || "?"} ${state === "silent" ? "no answer" : state}`);
}

export function overview() {
  const mark = el("span", { "aria-hidden": "true" }), sentence = el("span");
  const more = el("ul"), tiles = el("div", { class: "tiles" });
  const nodes = table([
    ["Node", ({ name }) => [swatch(name), name]],
    ["State", ({ name }) => stateCell(stateOf(name))],
    ["Zone", ({ said }) => (said ? said.node.zone : "-")],
    ["Owns", ({ name }) => owned(name), "num"],
    ["Puts/s", ({ name }) => rate(name, "puts"), "num"],
    ["Reads/s", ({ name }) => rate(name, "fetches"), "num"],
    ["p99 put", ({ name }) => took(newest(name)?.put_p99 ?? null), "num"],
    ["Hints", ({ said }) => (said ? number(said.hints.waiting) : "-"), "num"],
    ["CPU", ({ name }) => percent(newest(name)?.cpu), "num"],
    ["Memory", ({ said }) => (said ? size(said.node.rss_bytes) : "-"), "num"],
    ["Up", ({ said }) => (said ? ago(said.node.uptime_ms) : "-"), "num"],
    ["Its page", ({ name, said }) => (said && said.http && name !== known.cluster.by ? el("a", { href: `${said.http}/ui/` }, "open") : "")],
  ], "Nodes");
  const node = el("section", { "aria-label": "Overview" },
    el("p", { class: "verdict", id: "verdict", role: "status" }, mark, sentence), more, tiles,
    el("h2", null, "Nodes"), nodes, el("p", { class: "soft", id: "left-out" }));

  node.update = () => {
    const { cluster } = known;
    if (!cluster) return;
    const [kind, said, rest] = verdict(cluster);
    say(dress(mark, kind), { good: "\u25cf", warn: "\u25b2", bad: "\u2715" }[kind]);
    say(sentence, said);
    keep(more, rest, (text) => text, (text) => el("li", null, text));
    keep(tiles, figures(cluster), ([name]) => name, ([name]) => el("div", null, el("b"), name),
      (tile, [, value]) => say(tile.firstChild, value));
    nodes.show(cluster.nodes, ({ name }) => name);
    put(node.lastChild, cluster.left_out ? `${cluster.left_out} nodes more are not asked from here: see everwrite status.` : []);
  };
  return node;
}

function figures(cluster) {
  const told = cluster.nodes.filter((each) => each.said);
  const sum = (of) => told.reduce((total, each) => total + (of(each) || 0), 0);
  const now = (key) => sum(({ name }) => newest(name)?.[key]);
  const worst = (key) => told.reduce((most, { name }) => Math.max(most, newest(name)?.[key] ?? -1), -1);
  const first = told[0]?.said;
  return [
    ["nodes up", `${told.length} of ${cluster.nodes.length}`],
    ["puts a second", number(now("puts"))],
    ["copies read a second", number(now("fetches"))],
    ["slowest p99 of puts", took(worst("put_p99") < 0 ? null : worst("put_p99"))],
    ["errors a second", number(now("failed"))],
    ["sloppy answers a second", number(now("sloppy"))],
    ["gets with siblings a second", number(now("siblings"))],
    ["hints waiting", number(sum(({ said }) => said.hints.waiting))],
    ["copies of each key", first ? `${first.cluster.replicas} of N = ${first.cluster.replicas_wanted}` : "-"],
  ];
}

const rate = (name, key) => {
  const point = newest(name);
  return point && point[key] !== undefined ? number(point[key]) : "-";
};

const percent = (value) => (value === undefined ? "-" : `${value.toFixed(1)} %`);

function owned(name) {
  const seat = known.ring && known.ring.nodes.find((each) => each.name === name);
  return seat ? number(seat.owned) : "-";
}
