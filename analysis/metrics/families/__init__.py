"""One file a family of metrics; each declares ``FAMILY``."""
