"""CONVERSATIONS: how nodes learn of each other.   (Dynamo 4.8)

Purpose:       Who is a member, and who seems up.
Comes in:      Members, Ping, Pong; frames heard; connections made and lost; wake-ups.
Goes out:      Members, Ping, Pong; a new placement; the stored list of members.
May import:    core.cluster, core.messages, core.local, core.errors
Must never:    move ownership because somebody is slow; touch storage, clocks, sockets.
Start reading: rounds.py.
"""
