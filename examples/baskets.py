"""A cart as a map of counters: two people change it at the same time, and nobody merges anything.

    python examples/baskets.py [HOST:PORT]

prints

    Ann and Bob have both added tea: {'ink': 1, 'notes': 'gift', 'tea': 5}
    Ann has thrown the ink out, Bob has put in more: {'ink': 4, 'notes': 'gift', 'tea': 5}
    sold: {'notes': 'gift'}
"""

import sys
import threading
import uuid
from collections.abc import Callable

import everwrite


def at_the_same_time(*actions: Callable[[], object]) -> None:
    """Do all of it in threads of their own."""
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main() -> None:
    where = sys.argv[1:]
    with everwrite.connect_sync(where) if where else everwrite.open(None, engine="memory") as db:
        cart = db.bucket("baskets").map(uuid.uuid4().hex)
        tea, ink = cart.counter("tea"), cart.counter("ink")

        cart.register("notes").assign("gift")
        ink.add(1)
        at_the_same_time(lambda: tea.add(2), lambda: tea.add(3))
        print("Ann and Bob have both added tea:", cart.value())

        ann = db.session()
        cart.value(session=ann)
        cart.remove("ink", session=ann)  # takes what Ann has seen, whichever node does it
        ink.add(4)
        print("Ann has thrown the ink out, Bob has put in more:", cart.value(session=ann))

        cart.remove("tea", "ink", session=ann)
        print("sold:", cart.value())


if __name__ == "__main__":
    main()
