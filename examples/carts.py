"""Two people change one cart at the same time, and nothing is lost.

    python examples/carts.py [HOST:PORT]

prints

    both read: ['tea']
    siblings: [['tea', 'ink'], ['tea', 'pen']]
    together: ['ink', 'pen', 'tea']
    afterwards: [['ink', 'pen', 'tea']]
"""

import sys
import uuid

import everwrite


def union(carts: list[list[str]]) -> list[str]:
    """Merge siblings: what is in one of the carts is in the cart."""
    return sorted({item for cart in carts for item in cart})


def main() -> None:
    where = sys.argv[1:]
    with everwrite.connect_sync(where) if where else everwrite.open(None, engine="memory") as db:
        carts = db.bucket("carts", merge=union)
        key = uuid.uuid4().hex
        carts.put(key, ["tea"])

        ann, bob = carts.get(key), carts.get(key)
        print("both read:", ann.value)
        carts.put(key, [*ann.value, "pen"], context=ann.context)
        carts.put(key, [*bob.value, "ink"], context=bob.context)  # had not seen Ann's

        found = carts.get(key)
        print("siblings:", sorted(found.values))
        print("together:", found.value)
        carts.put(key, found.value, context=found.context)  # supersedes both
        print("afterwards:", carts.get(key).values)


if __name__ == "__main__":
    main()
