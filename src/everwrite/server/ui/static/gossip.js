// Who believes what of whom: a row for each node that speaks, a column for each of whom it speaks.

import { dress, el, keep, put, say } from "./dom.js";
import { stateCell, swatch } from "./overview.js";
import { known } from "./state.js";
import { ago, byName } from "./words.js";

export function gossipView() {
  const head = el("tr"), rows = el("tbody"), verdict = el("p", { role: "status" });
  const node = el("section", { "aria-label": "Gossip" }, el("h2", null, "Who believes what of whom"),
    el("p", { class: "soft" }, "Each row is what one node says of the others: how it takes them, and how long since it heard of them. Nodes need not agree: each one decides by itself whom to skip. A framed cell is taken otherwise by others."),
    verdict, el("div", { class: "scroll" }, el("table", { class: "matrix", "aria-label": "What each node believes" }, el("thead", null, head), rows)),
    el("h2", null, "Do they know the same?"), el("div", { id: "views" }));

  node.update = () => {
    const { cluster } = known;
    const names = [...new Set(cluster.nodes.flatMap(({ name, said }) => [name, ...(said ? said.nodes.map((peer) => peer.name) : [])]))].sort(byName);
    put(head, [el("th", { scope: "col" }, "says \u2193  of \u2192"), names.map((name) => el("th", { scope: "col" }, swatch(name), name))]);
    const opinions = new Map(names.map((name) => [name, new Set(cluster.nodes.flatMap(({ said }) => (said ? said.nodes : [])
      .filter((peer) => peer.name === name && peer.state !== "self").map((peer) => (peer.state === "down" ? "down" : "up"))))]));
    const split = names.filter((name) => opinions.get(name).size > 1);
    say(dress(verdict, split.length ? "warn" : "good"), split.length ? `Nodes differ about ${split.join(", ")}.` : "All that answer believe the same of all.");
    keep(rows, cluster.nodes, ({ name }) => name, ({ name }) => el("tr", null, el("th", { scope: "row" }, swatch(name), name)), (row, { said }) => {
      const cells = names.map((name) => {
        if (!said) return el("td", { class: "soft" }, "silent");
        const peer = said.nodes.find((each) => each.name === name);
        if (!peer) return el("td", { class: "differs" }, "unknown");
        if (peer.state === "self") return el("td", { class: "soft" }, "itself");
        return el("td", { class: opinions.get(name).size > 1 && peer.state === "down" ? "differs" : "" }, stateCell(peer.state),
          el("div", { class: "soft" }, peer.silent_ms === null ? "never heard" : `${ago(peer.silent_ms)} ago`, peer.rtt_ms === null ? "" : `, ${peer.rtt_ms} ms`));
      });
      while (row.children.length > 1) row.lastChild.remove();
      row.append(...cells);
    });
    const views = new Map();
    for (const { name, said } of cluster.nodes) if (said) views.set(said.cluster.view, [...(views.get(said.cluster.view) || []), name]);
    put(node.lastChild, views.size === 1 ? el("p", { class: "good" }, "Yes: all that answer go by the same ring.")
      : [...views].map(([view, who]) => el("p", { class: "warn" }, `Ring ${view.slice(0, 8)}: ${who.join(", ")}`)));
  };
  return node;
}
