"""Convert a layer's tar to a tree of files, and back. OCI image-spec layer.md.

A room of its own below images and snapshots, because both need it and siblings never
import each other: a driver applies and exports layers, a worker decompresses them.
"""
