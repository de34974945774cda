"""What a study is given: checkpoints, datasets and hub folders, read, checked and fingerprinted."""
