"""What a start costs here: Orlop's engine under load, with peers beside it in the same run.

A plan names parts; each part drives every driver in turns and leaves rows of figures. Parts
for work on Orlop, which use what is in tests/, are in the folder bench/ of a checkout.
"""
