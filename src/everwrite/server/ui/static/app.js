// The page: which view is shown, what the stream says, keys, light and dark.

import { browseView } from "./browse.js";
import { el, keep, put, say } from "./dom.js";
import { listen, Problem, signIn } from "./feed.js";
import { gossipView } from "./gossip.js";
import { latencyView } from "./latency.js";
import { overview } from "./overview.js";
import { plansView } from "./plans.js";
import { playView } from "./play.js";
import { repairsView } from "./repairs.js";
import { ringView } from "./ring.js";
import { known, take } from "./state.js";
import { walkView } from "./walk.js";

const VIEWS = [
  ["overview", "Overview", "o", overview],
  ["ring", "Ring", "r", ringView],
  ["walk", "Key walk", "w", walkView],
  ["repairs", "Repairs", "h", repairsView],
  ["gossip", "Gossip", "g", gossipView],
  ["latency", "Latency", "l", latencyView],
  ["data", "Data", "d", browseView],
  ["plans", "Plans", "c", plansView],
  ["play", "Playground", "p", playView],
];

const SILENCE_MS = 4000;

const of = (id) => document.getElementById(id);
const made = new Map();
let shown = null, heard = 0;

function show() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const view = VIEWS.find(([id]) => id === name && offered(id)) || VIEWS[0];
  if (!made.has(view[0])) made.set(view[0], view[3]());
  const node = made.get(view[0]);
  if (shown !== node) {
    if (shown && shown.leave) shown.leave();
    shown = node;
    put(of("view"), node);
    window.scrollTo(0, 0);
    if (node.enter) node.enter();
  }
  if (node.open) node.open(rest.map(decoded));
  document.title = `${view[1]} - Everwrite`;
  nav();
  refresh();
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

const offered = (id) => id !== "play" || Boolean(known.cluster && known.cluster.playground);

function nav() {
  const current = location.hash.slice(1).split("/")[0] || "overview";
  keep(of("nav"), VIEWS.filter(([id]) => offered(id)), ([id]) => id,
    ([id, title, key]) => el("a", { href: `#${id}`, title: `key ${key}`, "data-view": id }, title),
    (link, [id]) => (id === current ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current")));
}

function refresh() {
  if (shown && shown.update && (known.cluster || shown.early)) shown.update();
}

function hear(kind, data) {
  heard = performance.now();
  const before = offered("play");
  take(kind, data);
  if (offered("play") !== before) show();
  of("lost").hidden = true;
  if (kind === "cluster") say(of("who"), `${data.by}, one of ${data.nodes.length + data.left_out} nodes`);
  if (!document.hidden) refresh();
}

// A node that was frozen keeps its connections, and says nothing.
function watch() {
  const silent = performance.now() - heard;
  if (heard && silent > SILENCE_MS && of("lost").hidden) lost(new Problem(0, { detail: `it has said nothing for ${Math.round(silent / 1000)} s.` }));
}

function lost(problem) {
  if (problem.status === 401) {
    askForSecret();
    return;
  }
  const others = (known.cluster ? known.cluster.nodes : []).filter(({ name, said }) => said && said.http && name !== known.cluster.by);
  put(of("lost"), [
    `${known.cluster ? known.cluster.by : "This node"} does not answer: ${problem.message} ${problem.hint || ""} What you see is what was last said. `,
    others.length ? ["Other nodes: ", others.map(({ name, said }) => [el("a", { href: `${said.http}/ui/${location.hash}` }, name), " "])] : "",
  ]);
  of("lost").hidden = false;
}

function askForSecret() {
  const field = el("input", { type: "password", id: "secret", autocomplete: "current-password" });
  put(of("view"), el("form", { class: "card", onsubmit: (event) => {
    event.preventDefault();
    signIn(field.value);
    start();
  } }, el("h2", null, "This cluster has a secret"), el("p", null, "It is what EVERWRITE_SECRET holds where nodes are started. It stays in this tab, and goes nowhere but to this node."),
  el("label", { for: "secret" }, "Secret ", field), " ", el("button", { class: "main" }, "Open")));
  shown = null;
  field.focus();
}

function start() {
  listen(hear, lost);
  show();
}

function theme() {
  const names = ["system", "light", "dark"];
  const set = (name) => {
    document.documentElement.dataset.theme = name;
    say(of("theme"), name);
    localStorage.setItem("everwrite.theme", name);
  };
  set(names.includes(localStorage.getItem("everwrite.theme")) ? localStorage.getItem("everwrite.theme") : "system");
  of("theme").addEventListener("click", () => set(names[(names.indexOf(document.documentElement.dataset.theme) + 1) % 3]));
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) return;
  const dialog = of("keys");
  if (event.key === "?") {
    put(dialog, [el("h2", null, "Keys"), VIEWS.filter(([id]) => offered(id)).map(([, title, key]) => el("p", null, el("kbd", null, key), ` ${title}`)),
      el("form", { method: "dialog" }, el("button", null, "Close"))]);
    dialog.showModal();
    return;
  }
  const view = VIEWS.find(([id, , key]) => key === event.key && offered(id));
  if (view) location.hash = view[0];
}

window.addEventListener("hashchange", show);
document.addEventListener("visibilitychange", () => {
  heard = performance.now();  // what was not listened to was not silent
  refresh();
});
document.addEventListener("keydown", keys);
setInterval(watch, 1000);
theme();
start();
