"""Needles: long texts in which something is hidden that is asked for at their end, made in tokens of any tokenizer."""
