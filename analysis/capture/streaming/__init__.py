"""Models that do not fit into memory: a sweep reads each layer once and takes all waiting sequences through it.

Technique: replay. For layer i the model's own forward of every piece runs again with the layers before it handing out
what they returned when they ran, and ends after layer i. Masks, positions and rotary embeddings are made anew by the
model's own code, so that a sequence on its way is nothing but stored outputs of layers, and one cache of one layer.
"""
