"""Pure computation: the same arguments give the same answer, for ever and on every machine.

Nothing here reads a file, a clock, a socket or the environment, nothing awaits,
and nothing of ours is imported from outside this package.
"""
