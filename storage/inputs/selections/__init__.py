"""Selections that were made elsewhere, by a serving engine or a port: which records a dump has, and rows of each.

One file a format. Each lists the records of a file by reading their token ids and shapes alone, and then gives rows in
slices: a record of 131,072 tokens x 61 layers x 2,048 keys has 65 GB, so that none is ever held whole.
"""
