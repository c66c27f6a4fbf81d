"""Everything that a package can add to TinySearch, one file each, by entry points alone."""
