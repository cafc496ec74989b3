"""What a large cluster costs: real cores by the hundred, counted instead of judged.

Purpose:       Measure gossip, placement and traffic of 5 to 1000 nodes; write CSV, draw plots.
Comes in:      Sizes and seeds.
Goes out:      Tables (one NamedTuple per row, units in the names), CSV files, SVG files.
May import:    core, the sim's machine and disk, msgspec; matplotlib in plots.py only
Must never:    judge correctness (world.py does); read a clock, but to time a computation.
Start reading: command.py, then agreement.py with crowd.py, histories.py, traffic.py with arena.py.
"""
