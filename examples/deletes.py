"""A delete takes what it has seen, and nothing else.

    python examples/deletes.py [HOST:PORT]

prints

    Ann has seen ['draft']
    after her delete: ['final']
    after a delete of what is there: None deleted
    written anew: ['second life']
"""

import sys
import uuid

import everwrite


def main() -> None:
    where = sys.argv[1:]
    with everwrite.connect_sync(where) if where else everwrite.open(None, engine="memory") as db:
        notes = db.bucket("notes")
        key = uuid.uuid4().hex
        notes.put(key, "draft")

        seen = notes.get(key)
        print("Ann has seen", seen.values)
        notes.put(key, "final", context=seen.context)  # Bob is faster
        notes.delete(key, context=seen.context)  # so Ann's delete concerns the draft only
        print("after her delete:", notes.get(key).values)

        notes.delete(key)  # reads first, and takes what is there
        found = notes.get(key)
        print("after a delete of what is there:", found.value, found.quality.absent)

        notes.put(key, "second life", context=found.context)
        print("written anew:", notes.get(key).values)


if __name__ == "__main__":
    main()
