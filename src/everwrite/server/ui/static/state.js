// What the page knows: the last events, and a history of the numbers that charts are made of.

import { percentile } from "./tally.js";

export const SECONDS_MAX = 300;

export const known = { cluster: null, ring: null, colours: new Map() };

// One list per node of {at, puts, gets, put_p50, put_p99, turn_p50, turn_p99, cpu, failed}: at most SECONDS_MAX of each.
export const history = new Map();

const last = new Map();

export function take(kind, data) {
  known[kind] = data;
  if (kind !== "cluster") return;
  const now = performance.now();
  for (const { name, said } of data.nodes) {
    if (!known.colours.has(name)) known.colours.set(name, known.colours.size % 8);
    if (!said) {
      last.delete(name);
      push(name, { at: now });
      continue;
    }
    const before = last.get(name);
    last.set(name, { now, said });
    if (before && before.said.node.pid === said.node.pid && now > before.now) push(name, differences(before, { now, said }));
  }
}

function push(name, point) {
  const points = history.get(name) || [];
  points.push(point);
  if (points.length > SECONDS_MAX) points.shift();
  history.set(name, points);
}

function differences(before, after) {
  const s = (after.now - before.now) / 1000, a = before.said, b = after.said;
  const total = (tally) => tally.reduce((sum, [, n]) => sum + n, 0);
  return {
    at: after.now,
    puts: (total(b.took.put_ms) - total(a.took.put_ms)) / s,
    gets: (total(b.took.get_ms) - total(a.took.get_ms)) / s,
    fetches: (b.counters.fetches - a.counters.fetches) / s,
    failed: (b.failed - a.failed) / s,
    sloppy: (b.sloppy - a.sloppy) / s,
    siblings: (b.siblings - a.siblings) / s,
    cpu: (b.node.cpu_us - a.node.cpu_us) / 1e4 / s,
    put_p50: percentile(a.took.put_ms, b.took.put_ms, 0.5),
    put_p99: percentile(a.took.put_ms, b.took.put_ms, 0.99),
    get_p50: percentile(a.took.get_ms, b.took.get_ms, 0.5),
    get_p99: percentile(a.took.get_ms, b.took.get_ms, 0.99),
    turn_p50: milliseconds(percentile(a.took.turn_us, b.took.turn_us, 0.5)),
    turn_p99: milliseconds(percentile(a.took.turn_us, b.took.turn_us, 0.99)),
  };
}

const milliseconds = (us) => (us === null ? null : us / 1000);

export const newest = (name) => (history.get(name) || []).at(-1) || null;

// How a node is: what it says itself, and what the node of this page makes of it.
export function stateOf(name) {
  const node = known.cluster && known.cluster.nodes.find((each) => each.name === name);
  if (!node || !node.said) return "silent";
  const mine = known.cluster.nodes.find((each) => each.name === known.cluster.by);
  const seen = mine && mine.said && mine.said.nodes.find((peer) => peer.name === name);
  return seen ? (seen.state === "self" ? "up" : seen.state) : "up";
}

export const colourOf = (name) => `k${known.colours.get(name) ?? 7}`;
