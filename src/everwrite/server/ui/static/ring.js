// The ring: each partition an arc, its first owner outside, the second within, and so on; what moves is dashed.

import { dress, el, keep, put, say, svg, table } from "./dom.js";
import { stateCell, swatch } from "./overview.js";
import { colourOf, known, stateOf } from "./state.js";
import { byName, count, number } from "./words.js";

const OUTER = 150, WIDTH = 26, GAP = 3;

export function drawing() {
  const rows = svg("g"), moving = svg("g"), marks = svg("g"), middle = svg("text", { "text-anchor": "middle", y: -4 });
  const under = svg("text", { "text-anchor": "middle", y: 14, class: "thin" });
  const node = svg("svg", { class: "ring", viewBox: "-165 -165 330 330", role: "img" },
    svg("defs", null, svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svg("rect", { width: 6, height: 6, fill: "#b02a00" }), svg("rect", { width: 2, height: 6, fill: "#fff" }))),
    rows, moving, marks, middle, under);
  let drawn = null;

  node.update = () => {
    const { ring } = known;
    if (!ring) return;
    if (ring !== drawn) {
      drawn = ring;
      put(rows, ring.owners ? arcs(ring) : []);
      put(moving, Object.keys(ring.moving).map((partition) => svg("path", {
        class: "moving", d: line(+partition, ring.partitions, OUTER + 7) },
      svg("title", null, `partition ${partition} moves; it is served by ${ring.moving[partition].join(", ")}`))));
      say(middle, count(ring.partitions, "partition"));
      node.setAttribute("aria-label", `${ring.partitions} partitions, ${ring.replicas} copies each; the table has the same`);
    }
    say(under, ring.owners ? `${count(ring.replicas, "copy").replace("copys", "copies")} of each` : "too many to draw: see the table");
    for (const group of rows.children) {
      const state = stateOf(group.dataset.node);
      dress(group, `${colourOf(group.dataset.node)} node-${state}${group.dataset.node === node.chosen ? " on" : ""}`);
    }
    node.classList.toggle("focus", Boolean(node.chosen));
  };
  // Show where a partition lies.
  node.mark = (partition, text) => {
    const { ring } = known;
    const angle = ((partition + 0.5) / ring.partitions) * 2 * Math.PI;
    put(marks, svg("circle", { class: "mark", r: 7, cx: at(angle, OUTER + 6)[0], cy: at(angle, OUTER + 6)[1] }, svg("title", null, text)));
  };
  return node;
}

// One group for each node, so that its state is one class.
function arcs(ring) {
  return ring.nodes.map((owner, index) => {
    const group = svg("g", { "data-node": owner.name });
    for (let rank = 0; rank < ring.replicas; rank += 1) {
      for (let from = 0; from < ring.partitions; from += 1) {
        if (ring.owners[from][rank] !== index) continue;
        let to = from + 1;
        while (to < ring.partitions && ring.owners[to][rank] === index) to += 1;
        const outer = OUTER - rank * (WIDTH + GAP);
        group.append(svg("path", { d: arc(from, to, ring.partitions, outer, outer - WIDTH) },
          svg("title", null, `${to - from > 1 ? `partitions ${from} to ${to - 1}` : `partition ${from}`}: ${owner.name} is owner ${rank + 1}`)));
        from = to - 1;
      }
    }
    return group;
  });
}

const at = (angle, radius) => [Math.sin(angle) * radius, -Math.cos(angle) * radius].map((each) => +each.toFixed(2));

function arc(from, to, all, outer, inner) {
  const a = (from / all) * 2 * Math.PI, b = (Math.min(to, from + all * 0.9999) / all) * 2 * Math.PI, large = b - a > Math.PI ? 1 : 0;
  return `M${at(a, outer)}A${outer},${outer} 0 ${large} 1 ${at(b, outer)}L${at(b, inner)}A${inner},${inner} 0 ${large} 0 ${at(a, inner)}Z`;
}

function line(partition, all, radius) {
  const a = (partition / all) * 2 * Math.PI, b = ((partition + 1) / all) * 2 * Math.PI;
  return `M${at(a, radius)}A${radius},${radius} 0 0 1 ${at(b, radius)}`;
}

export function ringView() {
  const picture = drawing();
  const nodes = table([
    ["Node", ({ name }) => name],
    ["State", ({ name }) => stateCell(stateOf(name))],
    ["Standing", ({ standing }) => standing],
    ["Zone", ({ zone }) => zone],
    ["Owns", ({ owned }) => number(owned), "num"],
    ["Serves", ({ serves }) => number(serves), "num"],
    ["To come", ({ to_gain }) => number(to_gain), "num"],
    ["To go", ({ to_shed }) => number(to_shed), "num"],
    ["Load", ({ load }) => `${Math.round(load * 100)} %`, "num"],
  ], "What each node owns and serves");
  const pick = el("div", { class: "row", role: "group", "aria-label": "Show one node" });
  const moves = el("ul", { class: "log" }), still = el("p", { class: "soft" });
  const node = el("section", { "aria-label": "Ring" },
    el("h2", null, "The ring"),
    el("p", { class: "soft" }, "A key's hash says its partition. Outside is the first owner of each, within the second, and so on. Hatched: the node does not answer. Dashed: on its way."),
    el("div", { class: "split" }, el("div", null, picture, pick), el("div", null, nodes, el("h2", null, "Moves under way"), still, moves)));

  node.update = () => {
    const { ring, cluster } = known;
    if (!ring || !cluster) return;
    picture.update();
    const named = [...ring.nodes].sort((a, b) => byName(a.name, b.name));
    keep(pick, named, ({ name }) => name, ({ name }) => el("button", {
      type: "button", "aria-pressed": "false",
      onclick: () => {
        picture.chosen = picture.chosen === name ? null : name;
        node.update();
      } }, swatch(name), name),
    (button, { name }) => button.setAttribute("aria-pressed", String(picture.chosen === name)));
    nodes.show(named, ({ id }) => id);
    const told = cluster.nodes.flatMap(({ name, said }) => (said ? said.moves.map((move) => ({ name, ...move })) : []));
    say(still, told.length ? "" : "None: every partition is where it belongs.");
    keep(moves, told, (move) => `${move.name} ${move.partition} ${move.kind}`, () => el("li"),
      (item, move) => say(item, `${move.name} ${move.kind}s partition ${move.partition}${move.peer ? `, with ${move.peer}` : ""}: ${move.waiting ? `waits for ${move.waiting}` : `${move.phase}, ${count(move.keys, "key")}`}`));
  };
  return node;
}
