// The key walk: from a key to its place, its copies, what they come to, and what is going to be repaired.

import { dress, el, put, say, svg, table } from "./dom.js";
import { askJson, pathOf } from "./feed.js";
import { again, read, textOf, union, write } from "./kv.js";
import { stateCell, swatch } from "./overview.js";
import { drawing } from "./ring.js";
import { colourOf, known } from "./state.js";
import { ago, count, cut, size } from "./words.js";

const VALUE_MAX = 4096, SPACE = 96, STEP = 34, LEFT = 190;

export function walkView() {
  const bucket = el("input", { id: "walk-bucket", size: 14, value: "carts", required: true });
  const key = el("input", { id: "walk-key", size: 24, value: "alice", required: true });
  const said = el("p", { class: "said", role: "status" }), result = el("div", { id: "walked" });
  const node = el("section", { "aria-label": "Key walk" }, el("h2", null, "Key walk"),
    el("p", { class: "soft" }, "Type a key, and see where it lives, what each node has of it, and what a read makes of that. Nothing is changed by looking."),
    el("form", { class: "row", onsubmit: (event) => {
      event.preventDefault();
      const hash = `#walk/${encodeURIComponent(bucket.value)}/${encodeURIComponent(key.value)}`;
      if (location.hash === hash) go();
      else location.hash = hash;
    } }, el("label", { for: "walk-bucket" }, "Bucket ", bucket), el("label", { for: "walk-key" }, "Key ", key), el("button", { class: "main" }, "Walk")),
    said, result);
  let ring = null;

  node.open = ([wantedBucket, wantedKey]) => {
    if (!wantedBucket || wantedKey === undefined) return;
    [bucket.value, key.value] = [wantedBucket, wantedKey];
    go();
  };
  node.update = () => ring && ring.update();

  async function go(first = "") {
    say(said, first);
    try {
      const [explained, found] = await Promise.all([
        askJson(`${pathOf("/v1/explain/", bucket.value, key.value)}?key_encoding=base64url`),
        read(bucket.value, key.value).catch((problem) => ({ problem, siblings: [] })),
      ]);
      ring = drawing();
      put(result, walked(explained, found, ring, act));
      ring.update();
      if (known.ring) ring.mark(explained.partition, `partition ${explained.partition}`);
    } catch (problem) {
      put(result, []);
      say(said, `${problem.message} ${problem.hint || ""}`);
    }
  }

  async function act(what) {
    try {
      await go(await what(bucket.value, key.value));
    } catch (problem) {
      say(said, `${problem.message} ${problem.hint || ""}`);
    }
  }
  return node;
}

function walked(explained, found, ring, act) {
  const { preference } = explained;
  const places = table([
    ["", (row) => swatch(row.node)], ["Node", ({ node }) => node], ["Role", ({ role }) => role], ["State", ({ state }) => stateCell(state)],
    ["A get asks it", (row) => (row.asked ? (row.stands_in_for ? `for ${row.stands_in_for}` : "yes") : "")], ["Why", ({ reason }) => reason],
  ], "Preference list");
  places.show(preference, ({ node, role }) => `${node} ${role}`);
  return [
    el("p", null, "1. The hash of ", el("b", { class: "mono" }, `${explained.bucket}/${keyText(explained.key)}`), " is ", el("code", null, explained.hash),
      `, so it lives in partition ${explained.partition} of ${explained.partitions}.`),
    el("div", { class: "split" }, el("div", null, ring), el("div", null, el("h3", null, "2. Its preference list"), places)),
    el("h3", null, "3. What each node has"), versions(explained),
    el("h3", null, "4. What a get answers"), answer(explained, found), buttons(explained, found, act),
    el("h3", null, "5. What is going to be repaired"), repairs(explained),
  ];
}

const keyText = (key) => (typeof key === "string" ? key : `base64:${key.base64}`);

// Columns are nodes, rows are writes: a full circle is a copy, an empty one a write that is known to be overwritten.
function versions(explained) {
  const dots = new Map();
  const nodes = [];
  for (const replica of explained.replicas) {
    if (!replica.answered) nodes.push({ name: replica.node, silent: true, clock: {}, has: new Set() });
    for (const [copy, kept] of [[replica.own, false], [replica.kept, true]]) {
      if (!copy) continue;
      nodes.push({ name: replica.node, kept: kept && replica.kept_for.map((each) => each.node), clock: copy.clock, unreadable: copy.unreadable,
        has: new Set(copy.versions.map((version) => version.dot)) });
      for (const version of copy.versions) dots.set(version.dot, version);
    }
  }
  if (!dots.size) return el("p", null, "Nobody has a version of it.");
  const rows = [...dots.values()].sort((a, b) => a.written_ms - b.written_ms), live = new Set(explained.read.answers.flatMap((each) => each.dots));
  const right = LEFT + nodes.length * SPACE + 10, parts = [];
  nodes.forEach((node, x) => {
    const at = LEFT + x * SPACE + SPACE / 2;
    parts.push(svg("rect", { class: colourOf(node.name), x: at - 30, y: 34, width: 60, height: 4 }),
      svg("text", { x: at, y: 28, "text-anchor": "middle" }, node.name),
      svg("text", { x: at, y: 52, "text-anchor": "middle", class: "thin" }, node.silent ? "is silent" : node.unreadable ? "unreadable" : node.kept ? `hint for ${node.kept.join(", ")}` : "own copy"));
  });
  rows.forEach((version, y) => {
    const top = 76 + y * STEP;
    parts.push(svg("text", { x: 4, y: top + 1, class: "mono" }, version.dot),
      svg("text", { x: 4, y: top + 14, class: "thin" }, version.tombstone ? "a delete" : `${size(version.bytes)}, ${ago(Math.max(0, explained.time_ms - version.written_ms))} ago`));
    nodes.forEach((node, x) => {
      const kind = node.has.has(version.dot) ? colourOf(node.name) : covers(node.clock, version.dot) ? "known" : "none";
      const what = { known: "knows that it was overwritten", none: node.silent ? "is silent" : "has not heard of it" }[kind] || "has it";
      if (kind.startsWith("k") && kind !== "known" && live.has(version.dot)) {
        parts.push(svg("line", { x1: LEFT + x * SPACE + SPACE / 2 + 8, y1: top, x2: right, y2: top }));
      }
      parts.push(svg("circle", { class: kind, cx: LEFT + x * SPACE + SPACE / 2, cy: top, r: 8 }, svg("title", null, `${node.name} ${what}`)));
    });
    parts.push(svg("text", { x: right + 6, y: top + 4 }, live.has(version.dot) ? (version.tombstone ? "deleted" : "answered") : "overwritten"));
  });
  const height = 76 + rows.length * STEP;
  return el("div", { class: "scroll" }, svg("svg", { class: "versions", width: right + 90, height, viewBox: `0 0 ${right + 90} ${height}`, role: "img",
    "aria-label": `${count(rows.length, "version")} on ${count(nodes.length, "node")}` }, parts),
  el("p", { class: "soft" }, "A row is one write, named by its dot: who wrote it, and its number. Full: the node has it. Empty: it knows that it was overwritten. Dotted: it has not heard of it. Two rows that are answered are siblings."));
}

// Dots and clocks name actors alike; a dot ends with its number.
function covers(clock, dot) {
  const at = dot.lastIndexOf("-");
  return (clock[dot.slice(0, at)] || 0) >= Number(dot.slice(at + 1));
}

function answer(explained, found) {
  const { read: foreseen } = explained;
  const parts = [el("p", null, `With n=${foreseen.n} and r=${foreseen.r}: ${foreseen.why}`)];
  if (found.problem) return [...parts, el("p", { class: "bad" }, `${found.problem.message} ${found.problem.hint}`)];
  if (!found.siblings.length) return [...parts, el("p", null, `Nothing: absent (${found.absent}).`)];
  if (found.siblings.length > 1) {
    parts.push(el("p", { class: "warn" }, `${count(found.siblings.length, "sibling")}: none of them has seen the other. The application decides; until then all are kept.`));
  }
  return [...parts, el("ul", { id: "values" }, found.siblings.map((sibling) => el("li", null,
    el("code", null, cut(textOf(sibling), VALUE_MAX)), el("span", { class: "soft" }, ` ${sibling.content_type}`))))];
}

function buttons(explained, found, act) {
  const { siblings, context } = found;
  const row = el("div", { class: "row" }, el("button", { type: "button", id: "repair", onclick: () => act(async (bucket, key) => {
    const { quality } = await read(bucket, key, `&r=${explained.read.n}`);
    return quality ? `All ${explained.read.n} were read${quality.fallbacks ? `, ${count(quality.fallbacks, "stand-in")} among them` : ""}: owners that lacked something have been sent it.` : "All owners were read.";
  }) }, "Read all owners: repairs what differs"));
  if (siblings.length < 2) return row;
  const all = union(siblings);
  if (all) {
    row.append(el("button", { type: "button", class: "main", id: "merge", onclick: () => act(async (bucket, key) => {
      await write(bucket, key, JSON.stringify(all), context);
      return "Resolved: the union of all lists was written, with the context of all siblings.";
    }) }, "Resolve: all items"));
  }
  siblings.forEach((sibling, at) => row.append(el("button", { type: "button", onclick: () => act(async (bucket, key) => {
    const [body, type] = again(sibling);
    await write(bucket, key, body, context, type);
    return `Resolved: sibling ${at + 1} was kept, and the others are overwritten.`;
  }) }, `Resolve: keep ${at + 1}`)));
  return row;
}

function repairs(explained) {
  if (!explained.repair.length) return el("p", { class: "good" }, "Nothing: all that answered agree.");
  return el("ul", null, explained.repair.map((each) => dress(el("li", null,
    `${each.what} ${each.node}: ${each.why}${each.lacks.length ? ` (it lacks ${each.lacks.join(", ")})` : ""}`), "warn")));
}
