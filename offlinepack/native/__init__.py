"""Read native binaries and find the shared libraries that they need."""
