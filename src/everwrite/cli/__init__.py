"""The command line: one file per group of commands, each loaded when it is used.

Purpose:       `everwrite ...` for people and scripts, with documented exit codes.
Comes in:      Arguments, EVERWRITE_* variables, a TOML file, standard input.
Goes out:      Tables or JSON, exit codes, requests of the public client, node processes.
May import:    everything, but server and client only inside functions: --help stays fast.
Must never:    hold policy of the store; take a secret from argv; signal a process that it
               can't prove is its own.
Start reading: main.py, then data.py for the simplest command and devcluster.py for a
               cluster of real processes.
"""
