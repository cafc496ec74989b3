"""`everwrite demo`: shopping carts on a cluster that is being broken, and a verdict.

Purpose:       Show on real processes that what was acknowledged is found.     (Dynamo 1, 4.4, 4.6)
Comes in:      The options of the demo; Ctrl-C.
Goes out:      A live picture on standard error, the verdict on standard output, the exit code.
May import:    cli's devcluster, reports, histogram, output; the public client.
Must never:    judge by anything but what the client was told and what replicas hold.
Start reading: carts.py (what is counted), then command.py from the top.
"""
