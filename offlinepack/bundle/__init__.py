"""Write, read, validate and merge bundles of format 1."""
