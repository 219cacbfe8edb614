"""Models that others made and that know photos and phrases already, one file each."""
