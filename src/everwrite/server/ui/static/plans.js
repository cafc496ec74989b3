// Plans: who comes, goes, or takes more; what that moves; and how far it is. Nothing moves before an operator commits.

import { dress, el, keep, put, say, table } from "./dom.js";
import { ask, askJson } from "./feed.js";
import { swatch } from "./overview.js";
import { known } from "./state.js";
import { ago, byName, count, number, size } from "./words.js";

const VERBS = { leave: "let it leave: it hands over all it has", remove: "remove it: it is gone for good", join: "let it in: it is waiting", weight: "give it another weight", zone: "move it to another zone" };

export function plansView() {
  const said = el("p", { role: "status" }), plan = el("div", { id: "plan" }), steady = el("p"), progress = el("tbody");
  const verb = el("select", { id: "plan-verb" }, Object.entries(VERBS).map(([name, what]) => el("option", { value: name }, `${name}: ${what}`)));
  const who = el("select", { id: "plan-node" }), value = el("input", { id: "plan-value", size: 8 });
  const valueLabel = el("label", { for: "plan-value", hidden: true }, "to ", value);
  const node = el("section", { "aria-label": "Plans" }, el("h2", null, "Change the cluster"),
    el("p", { class: "soft" }, "A change is staged first: all nodes know it, and none goes by it. You see what it would move, and commit it or forget it."),
    el("form", { class: "row", onsubmit: (event) => {
      event.preventDefault();
      stage();
    } }, el("label", { for: "plan-node" }, "Node ", who), el("label", { for: "plan-verb" }, "Change ", verb), valueLabel, el("button", { id: "stage" }, "Stage it")),
    said, plan, el("h2", null, "How far it is"), steady,
    el("div", { class: "scroll" }, el("table", { "aria-label": "Progress" }, el("thead", null, el("tr", null, ["Node", "Standing", "Serves of what it owns", "To come", "To go"].map((head) => el("th", { scope: "col" }, head)))), progress)));
  verb.addEventListener("change", () => {
    valueLabel.hidden = !["weight", "zone"].includes(verb.value);
  });

  const change = () => ({ verb: verb.value, node: who.value,
    ...(verb.value === "weight" ? { weight: Number(value.value) } : {}), ...(verb.value === "zone" ? { zone: value.value } : {}) });
  const stage = () => act(() => ask("/v1/plans", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ changes: [change()] }) }), "Staged. Nobody goes by it yet.");

  async function act(how, done) {
    try {
      await how();
      await look();
      say(said, done);
    } catch (problem) {
      say(said, `${problem.message} ${problem.hint || ""}`);
    }
  }

  async function look() {
    try {
      const found = await askJson("/v1/plans");
      put(plan, found.plan ? shown(found, act) : el("p", { class: "soft" }, "Nothing is staged."));
    } catch (problem) {
      say(said, problem.message);
    }
  }

  node.update = () => {
    const mine = known.cluster.nodes.find(({ name, said: it }) => it && name === known.cluster.by) || known.cluster.nodes.find((each) => each.said);
    if (!mine) return;
    const members = [...mine.said.nodes].sort((a, b) => byName(a.name, b.name));
    keep(who, members, ({ id }) => id, ({ name }) => el("option", { value: name }, name));
    const left = members.reduce((sum, each) => sum + each.to_gain + each.to_shed, 0);
    say(dress(steady, left ? "warn" : "good"), left ? `${count(left, "move")} still to be made.` : "Done: every node serves all it owns, and nothing else.");
    keep(progress, members, ({ id }) => id, ({ name }) => el("tr", null, el("td", null, swatch(name), name), el("td"), el("td", null, el("progress", { max: 1 }), " ", el("span")), el("td"), el("td")),
      (row, each) => {
        const has = each.owned - each.to_gain;
        say(row.children[1], each.standing);
        const bar = row.children[2].firstChild;
        bar.value = each.owned ? has / each.owned : 1;
        bar.setAttribute("aria-label", `${each.name} serves ${has} of ${each.owned}`);
        say(row.children[2].lastChild, `${number(has)} of ${number(each.owned)}`);
        say(row.children[3], number(each.to_gain));
        say(row.children[4], number(each.to_shed));
      });
  };
  node.enter = look;
  return node;
}

function shown(found, act) {
  const nodes = table([
    ["Node", ({ name }) => [swatch(name), name]], ["Standing", (each) => (each.standing === each.standing_after ? each.standing : `${each.standing} \u2192 ${each.standing_after}`)],
    ["Owns", ({ owned }) => number(owned), "num"], ["Then", ({ owned_after }) => number(owned_after), "num"],
    ["Comes in", ({ comes_in }) => number(comes_in), "num"], ["Goes out", ({ goes_out }) => number(goes_out), "num"],
  ], "What the plan does");
  nodes.show(found.nodes, ({ id }) => id);
  return el("div", { class: "card" }, el("h3", null, "Staged: ", el("code", null, found.plan.slice(0, 8))),
    el("p", null, `${count(found.copies_moved, "copy").replace("copys", "copies")} of partitions move, about ${size(found.bytes)} in ${ago(found.ms)}${found.times_optimum ? `; ${found.times_optimum} times the least that is possible` : ""}.`),
    found.notes.map((note) => el("p", { class: "warn" }, note)), nodes,
    el("div", { class: "row" }, el("button", { type: "button", class: "main", id: "commit", disabled: !found.stands, onclick: () => act(() => ask(`/v1/plans/${found.plan}/commit`, { method: "POST" }), "Committed: all nodes go by it from now on.") }, "Commit it"),
      el("button", { type: "button", id: "forget", onclick: () => act(() => ask(`/v1/plans/${found.plan}`, { method: "DELETE" }), "Forgotten.") }, "Forget it")));
}
