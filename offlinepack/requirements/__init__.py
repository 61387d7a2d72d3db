"""Read requirements from files, locks, projects and virtual environments."""
