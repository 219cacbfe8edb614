"""The embedded data set of procedurally drawn scenes."""
