"""Build wheels from sdists, project folders and repositories."""
