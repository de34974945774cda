"""What an indexer does to the next-token distribution, in the terms of llama.cpp's KL-divergence report."""
