"""Everything that touches a disk or a bucket: checkpoints and datasets in, tables and reports out."""
