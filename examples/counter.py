"""Count where nobody can lock: each writer counts its own, and a reader adds up.

    python examples/counter.py [HOST:PORT]

prints

    300 visits, counted by 3 writers at a time
"""

import sys
import threading
import uuid

import everwrite

WRITERS, VISITS = 3, 100


def most(counts: list[dict[str, int]]) -> dict[str, int]:
    """Merge siblings: of each writer's numbers the highest, since each only counts up."""
    names = {name for count in counts for name in count}
    return {name: max(count.get(name, 0) for count in counts) for name in names}


def main() -> None:
    where = sys.argv[1:]
    with everwrite.connect_sync(where) if where else everwrite.open(None, engine="memory") as db:
        pages = db.bucket("pages", merge=most)
        key = uuid.uuid4().hex

        def write(name: str) -> None:
            for number in range(1, VISITS + 1):
                mine = {name: number}
                pages.update(key, lambda seen, mine=mine: most([seen or {}, mine]))

        writers = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()

        total = sum(pages.get(key).value.values())
        print(f"{total} visits, counted by {WRITERS} writers at a time")


if __name__ == "__main__":
    main()
