"""A layer's tar, to and from a tree of files. OCI image-spec layer.md.

Its own room, below images and snapshots, for both need it and siblings never
import each other: a driver applies and exports layers, a worker decompresses them.
"""
