// Hints: what nodes keep for others. Repairs: when copies were compared last, and what was mended.

import { dress, el, keep, say, table } from "./dom.js";
import { askJson } from "./feed.js";
import { swatch } from "./overview.js";
import { known } from "./state.js";
import { ago, count, number, size } from "./words.js";

const LOOK_MS = 5000, PAIRS_SHOWN_MAX = 40;

export function repairsView() {
  const hints = table([
    ["Kept by", ({ by }) => [swatch(by), by]], ["For", ({ owner }) => [swatch(owner), owner]],
    ["Hints", ({ notes }) => number(notes), "num"], ["Bytes", ({ bytes }) => size(bytes), "num"], ["Oldest", ({ oldest_ms }) => ago(oldest_ms), "num"],
    ["On its way", ({ in_flight }) => number(in_flight), "num"], ["Waits for", ({ waits_for }) => waits_for],
  ], "Hints");
  const none = el("p", { class: "good" });
  const room = table([
    ["Node", ({ name }) => [swatch(name), name]], ["Keeps", ({ said }) => number(said.hints.waiting), "num"],
    ["Of at most", ({ said }) => number(said.hints.cap), "num"], ["Bytes", ({ said }) => size(said.hints.bytes), "num"],
    ["Takes more", ({ said }) => (said.hints.full ? "no: writes that need one are refused" : "yes")],
    ["Read repairs", ({ said }) => number(said.counters.read_repairs), "num"],
    ["Keys it was sent", ({ said }) => number(said.counters.repair_keys_in), "num"],
    ["Damaged copies", ({ said }) => number(said.disk.damaged), "num"],
  ], "Hints and repairs of each node");
  const pairs = table([
    ["Partition", ({ partition }) => partition, "num"], ["With", ({ peer }) => [swatch(peer), peer]],
    ["Agreed", ({ agreed_ms }) => (agreed_ms === null ? "not yet" : `${ago(agreed_ms)} ago`), "num"], ["Now", ({ phase }) => phase || "-"],
  ], "Pairs of replicas");
  const said = el("p"), failed = el("p", { class: "bad" });
  let timer = null;
  const node = el("section", { "aria-label": "Hints and repairs" }, el("h2", null, "Hints"),
    el("p", { class: "soft" }, "A write whose owner is away goes to a stand-in, which notes whom it is for, and brings it home. No hint is dropped."), none, hints,
    el("h2", null, "What each node keeps and has repaired"), room,
    el("h2", null, "Replicas, compared"), el("p", { class: "soft" }, "Owners of a partition compare sums of all they hold; where these differ, only the keys that differ travel. These are the pairs of this page's node; the longest without agreement come first."), said, failed, pairs);

  async function look() {
    try {
      const report = await askJson("/v1/repairs");
      const rows = report.pairs.sort((a, b) => (b.agreed_ms ?? Infinity) - (a.agreed_ms ?? Infinity));
      const never = rows.filter(({ agreed_ms }) => agreed_ms === null).length;
      say(said, `${report.name} has ${count(report.pairs_in_all, "pair")} to compare, each once in ${ago(report.round_ms)}. ${never ? `${number(never)} have not agreed since it started.` : "All have agreed since it started."} ${rows.length > PAIRS_SHOWN_MAX ? `${PAIRS_SHOWN_MAX} are shown.` : ""}`);
      pairs.show(rows.slice(0, PAIRS_SHOWN_MAX), ({ partition, peer }) => `${partition} ${peer}`);
      say(failed, "");
    } catch (problem) {
      say(failed, problem.message);
    }
  }

  node.update = () => {
    const told = known.cluster.nodes.filter((each) => each.said);
    const rows = told.flatMap(({ name, said: it }) => it.hints.targets.map((target) => ({ by: name, ...target })));
    say(dress(none, rows.length ? "soft" : "good"), rows.length ? "" : "None waits: every owner has what is meant for it.");
    hints.hidden = !rows.length;
    hints.show(rows, ({ by, owner }) => `${by} ${owner}`);
    room.show(told, ({ name }) => name);
  };
  node.enter = () => {
    look();
    timer = setInterval(() => document.hidden || look(), LOOK_MS);
  };
  node.leave = () => clearInterval(timer);
  return node;
}
