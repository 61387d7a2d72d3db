"""What the person at the gate wants to see: views of a bundle, each a pure function."""
