"""The store: addresses, units with their commit markers, files on a disk or in a bucket, and their care."""
