// Percentiles of what was counted between two glances. A tally's buckets are those of core/tally.py: numbers under 16 have
// one each, above that each octave has eight.

const FINE_BITS = 3;

// The largest number that is counted in a bucket.
export function topOf(bucket) {
  if (bucket < 2 << FINE_BITS) return bucket;
  const shift = (bucket >> FINE_BITS) - 1;
  return (bucket - (shift << FINE_BITS) + 1) * 2 ** shift - 1;
}

// What so large a part of the new numbers does not exceed; null: there are none.
export function percentile(before, after, part) {
  const old = new Map(before);
  const news = after.map(([bucket, n]) => [bucket, n - (old.get(bucket) || 0)]).filter(([, n]) => n > 0);
  const total = news.reduce((sum, [, n]) => sum + n, 0);
  let left = Math.ceil(total * part);
  for (const [bucket, n] of news) {
    left -= n;
    if (left <= 0) return topOf(bucket);
  }
  return null;
}
