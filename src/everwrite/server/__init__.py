"""THE SHELL: the only room with an event loop.

Purpose:       Carries bytes between sockets, the disk and the core; owns the clock and the threads.
Comes in:      Frames of nodes and clients, ends of reads and syncs, the passing of time, signals.
Goes out:      Frames, batches, answers to administrative questions, log lines.
May import:    core, storage, asyncio, uvloop
Must never:    decide what a request means: that is the core's.
Start reading: driver.py, then transport.py.
"""
