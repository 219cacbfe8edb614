"""Annotations to batches: readers, the referring table, the data set, its sampler and the embedded shapes."""
