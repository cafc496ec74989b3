// The playground: break a cluster by buttons, and keep a shopping cart on both sides of what is broken.

import { el, keep, put, say } from "./dom.js";
import { ask, askJson } from "./feed.js";
import { read, remove, union, write } from "./kv.js";
import { stateCell, swatch } from "./overview.js";
import { drawing } from "./ring.js";
import { known, stateOf } from "./state.js";
import { count } from "./words.js";

const BUCKET = "carts", GOODS = ["tea", "jam", "bread", "milk", "apples", "cheese"];
const EMPTY = { unknown: "No copy of the cart is on this side, and not all of its owners can be asked. It takes what you put in all the same." };
const LOOK_MS = 1000, LOG_MAX = 50;

export function playView() {
  const log = el("ol", { class: "log", "aria-live": "polite", "aria-label": "What happened" });
  const tell = (text) => {
    log.prepend(el("li", null, text));
    while (log.children.length > LOG_MAX) log.lastChild.remove();
  };
  const ring = drawing(), power = powerPart(tell), cart = cartPart(tell), story = storyPart();
  const node = el("section", { "aria-label": "Playground" }, el("h2", null, "Playground"), story,
    el("div", { class: "split" }, el("div", null, cart, el("h3", null, "What happened"), log), el("div", null, power, ring)));

  node.update = () => {
    ring.update();
    power.update();
    cart.update();
    story.update(cart.seen);
  };
  node.enter = () => cart.look();
  node.leave = () => cart.rest();
  return node;
}

const isCut = () => Boolean(known.cluster && known.cluster.nodes.some(({ said }) => said && said.blocked.length));

// -- faults ------------------------------------------------------------------------------------------

function powerPart(tell) {
  const rows = el("tbody"), left = new Set(), buttons = [];
  let names = [], busy = false;
  const order = async (wish) => {
    if (busy) return;
    busy = true;
    node.update();
    try {
      const fresh = await askJson("/v1/playground");
      const done = await (await ask("/v1/playground", { method: "POST", body: JSON.stringify(wish),
        headers: { "Content-Type": "application/json", "Playground-Token": fresh.token } })).json();
      tell(done.said);
    } catch (problem) {
      tell(`${problem.message} ${problem.hint || ""}`);
    }
    busy = false;
    node.update();
  };
  const button = (text, id, onclick, kind) => {
    const made = el("button", { type: "button", id, class: kind, onclick }, text);
    buttons.push(made);
    return made;
  };
  const sides = () => [names.filter((name) => left.has(name)), names.filter((name) => !left.has(name))];
  const cutButton = button("Cut the network", "cut", () => order({ order: "cut", sides: sides() }), "main");
  const healButton = button("Heal it", "heal", () => order({ order: "heal" }));
  const how = el("p", { class: "soft" });
  const node = el("div", { class: "card" }, el("h3", null, "Break it"),
    el("table", { "aria-label": "Faults" }, el("thead", null, el("tr", null, ["Node", "State", "Side", "", ""].map((head) => el("th", { scope: "col" }, head)))), rows),
    el("div", { class: "row" }, cutButton, healButton), how);

  node.update = () => {
    const { cluster } = known;
    if (!cluster) return;
    const fresh = cluster.nodes.map(({ name }) => name);
    if (!names.length) fresh.slice(0, Math.floor(fresh.length / 2)).forEach((name) => left.add(name));
    names = fresh;
    keep(rows, cluster.nodes, ({ name }) => name, ({ name }) => {
      const side = el("button", { type: "button", id: `side-${name}`, onclick: () => {
        if (!left.delete(name)) left.add(name);
        node.update();
      } });
      return el("tr", null, el("td", null, swatch(name), name), el("td"), el("td", null, side), el("td", null,
        button("kill", `kill-${name}`, () => order({ order: "kill", node: name })), " ",
        button("pause", `pause-${name}`, () => order({ order: "pause", node: name })), " ",
        button("bring back", `back-${name}`, () => order({ order: "back", node: name }))), el("td"));
    }, (row, { name, said }) => {
      const silent = !said;
      put(row.children[1], stateCell(stateOf(name)));
      const side = row.children[2].firstChild;
      say(side, left.has(name) ? "A" : "B");
      side.setAttribute("aria-label", `${name} is on side ${left.has(name) ? "A" : "B"} of a cut; change`);
      const [kill, pause, back] = row.children[3].querySelectorAll("button");
      kill.disabled = busy;
      pause.disabled = silent || busy;
      back.disabled = !silent || busy;
      const url = said && said.http ? `${said.http}/ui/#play` : "";
      if (row.url !== url) put(row.children[4], url && name !== cluster.by ? el("a", { href: url, target: "_blank", rel: "noopener" }, "its page") : name === cluster.by ? "this page" : "");
      row.url = url;
    });
    const [a, b] = sides();
    cutButton.disabled = busy || !a.length || !b.length;
    healButton.disabled = busy;
    say(how, busy ? "Under way ..." : isCut() ? "The network is cut. Links between the sides carry nothing." : `A cut would part ${a.join(", ")} from ${b.join(", ")}.`);
  };
  return node;
}

// -- the cart ----------------------------------------------------------------------------------------

function cartPart(tell) {
  const owner = el("input", { id: "cart-owner", size: 12, value: "alice" });
  const shelf = el("div", { class: "row", role: "group", "aria-label": "Put into the cart" });
  const where = el("p", { class: "soft" }), carts = el("div", { id: "carts" }), merge = el("button", { type: "button", class: "main", id: "merge-carts", hidden: true, onclick: () => change((items) => items, "merged the carts") }, "Merge them: all items");
  const say2 = el("p", { role: "status" });
  let found = { siblings: [], context: "" }, timer = null, busy = false, drawn = "";
  const node = el("div", { class: "card" }, el("h3", null, "A shopping cart"), where, el("label", { for: "cart-owner" }, "Whose ", owner), shelf, say2, carts, el("div", { class: "row" }, merge));
  node.seen = { put: false, afterCut: false, siblings: false, merged: false, standin: false };
  put(shelf, GOODS.map((item) => el("button", { type: "button", id: `add-${item}`, onclick: () => change((items) => (items.includes(item) ? items : [...items, item]), `put ${item} into the cart`) }, `+ ${item}`)));

  async function refresh() {
    try {
      found = await read(BUCKET, owner.value);
      show();
    } catch (problem) {
      say(say2, `This page's node cannot read the cart now: ${problem.message}`);
    }
  }

  // What an application does: read, merge what it finds, change that, and write it over all that it has seen.
  async function change(how, what) {
    if (busy) return;
    busy = true;
    try {
      found = await read(BUCKET, owner.value);
      const before = found.siblings.length;
      const items = how(union(found.siblings) || []);
      const done = items.length ? await write(BUCKET, owner.value, JSON.stringify(items), found.context) : await remove(BUCKET, owner.value, found.context);
      const { owners, fallbacks } = done.replicas;
      tell(`${known.cluster ? known.cluster.by : "This node"} ${what}: on ${count(owners || 0, "owner")}${fallbacks ? ` and ${count(fallbacks, "stand-in")}, which ${fallbacks > 1 ? "keep" : "keeps"} a hint for who is missing` : ""}, ${done.replicas.required} needed.`);
      node.seen.put = true;
      node.seen.afterCut ||= isCut();
      node.seen.standin ||= fallbacks > 0;
      node.seen.merged ||= before > 1;
    } catch (problem) {
      tell(`${problem.message} ${problem.hint || ""}`);
    }
    busy = false;
    await refresh();
  }

  function show() {
    const { siblings } = found;
    node.seen.siblings ||= siblings.length > 1;
    merge.hidden = siblings.length < 2;
    say(say2, !siblings.length ? EMPTY[found.absent] || "The cart is empty." : siblings.length > 1
      ? `${siblings.length} carts! They were changed on two sides that could not hear each other. Neither is lost: here are both.` : "One cart, as far as this side can see.");
    const told = JSON.stringify(siblings.map(({ value }) => value));
    if (told === drawn) return;
    drawn = told;
    put(carts, siblings.map(({ value }) => el("div", { class: "cart" }, el("ul", { class: "items" },
      (Array.isArray(value) ? value : [value]).map((item) => el("li", null, String(item), el("button", { type: "button", "aria-label": `take out ${item}`, onclick: () => change((items) => items.filter((each) => each !== item), `took ${item} out`) }, "\u2715")))))));
  }

  node.update = () => say(where, known.cluster ? `This page talks to ${known.cluster.by}. Open the page of a node on the other side in a second window: both have the same cart.` : "");
  node.look = () => {
    refresh();
    timer = setInterval(() => !busy && !document.hidden && refresh(), LOOK_MS);
  };
  node.rest = () => clearInterval(timer);
  owner.addEventListener("change", refresh);
  return node;
}

// -- two minutes -------------------------------------------------------------------------------------

function storyPart() {
  const steps = [
    ["Put tea into the cart. It is written to the owners of its key; two of three are enough.", (seen) => seen.put],
    ["Cut the network. Each side goes on alone.", (seen) => seen.cut],
    ["Put jam into the cart here. Where too few owners are left, a stand-in takes the write and keeps a hint: a sloppy quorum.", (seen) => seen.afterCut],
    ["Open the page of a node on the other side, and put milk into the cart there. It does not know of the jam.", (seen) => seen.cut && seen.siblings],
    ["Heal the network. Hints are brought home, and both carts are there: siblings.", (seen) => seen.healed && seen.siblings],
    ["Merge them. The new cart has seen both, so it takes their place, everywhere.", (seen) => seen.merged],
  ];
  const items = steps.map(([text]) => el("li", null, text));
  const node = el("details", { open: true, class: "card" }, el("summary", null, "Dynamo in two minutes"), el("ol", { class: "story" }, items));
  node.update = (seen) => {
    seen.cut ||= isCut();
    seen.healed ||= seen.cut && !isCut();
    steps.forEach(([, done], at) => items[at].classList.toggle("done", Boolean(done(seen))));
  };
  return node;
}
