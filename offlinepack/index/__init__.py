"""Package indexes: settings, addresses and the files of a project."""
